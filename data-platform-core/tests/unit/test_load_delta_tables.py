"""What a load reads of a real Delta table: its state, its log, its files, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from data_platform_core.batch.delta_log import (
    LogGapError,
    TableState,
    added_files,
    read_actions,
    read_files,
    read_snapshot,
    table_state,
)  # fmt: skip
from data_platform_core.errors import ServiceError

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def made(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Versions 0 to 3: ten rows each, the last one a compaction. A day is part of each path, with a sign to escape."""
    folder = str(tmp_path_factory.mktemp("made") / "orders")
    for version in range(3):
        append(spark, folder, version)
    from delta.tables import DeltaTable

    DeltaTable.forPath(spark, folder).optimize().executeCompaction()
    return folder


@pytest.fixture
def uri(made: str, tmp_path: Path) -> str:
    """A copy of the table: its log names files by paths inside it."""
    return str(shutil.copytree(made, tmp_path / "orders"))


def append(spark: SparkSession, folder: str, version: int) -> None:
    rows = spark.range(version * 10, version * 10 + 10, 1, 1).selectExpr("id", "'a b:c' AS day")
    rows.write.format("delta").mode("append").partitionBy("day").save(folder)


def test_a_table_is_known_by_its_id_and_newest_version(spark: SparkSession, uri: str) -> None:
    state = table_state(spark, uri)
    assert (state.uri, state.version) == (uri, 3)
    assert len(state.table_id) == 36
    append(spark, uri, 3)
    assert table_state(spark, uri) == TableState(uri, state.table_id, 4)


def test_a_table_that_does_not_exist_is_refused_with_what_creates_it(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"nowhere does not exist; the streaming job creates it"):
        table_state(spark, str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("feature", "setting"),
    [
        ("deletionVectors", "'delta.enableDeletionVectors' = 'true'"),
        ("columnMapping", "'delta.columnMapping.mode' = 'name'"),
    ],
)
def test_a_table_whose_files_are_not_simply_its_rows_is_refused(
    spark: SparkSession, uri: str, feature: str, setting: str
) -> None:
    spark.sql(f"ALTER TABLE delta.`{uri}` SET TBLPROPERTIES ({setting})")
    with pytest.raises(ServiceError, match=f"has the Delta feature {feature}, which the load doesn't read"):
        table_state(spark, uri)


def test_the_rows_between_two_versions_are_those_of_their_appends(spark: SparkSession, uri: str) -> None:
    actions = read_actions(spark, uri, 1, 3)
    assert [(action.version, action.kind, action.rows, action.has_deletions) for action in actions] == [
        (1, "add", 10, False), (2, "add", 10, False),
    ]  # fmt: skip
    added = added_files(uri, actions)
    assert added.rows == 20
    assert sorted(row["id"] for row in read_files(spark, uri, added.paths).collect()) == list(range(10, 30))


def test_deleted_rows_are_seen_in_the_log(spark: SparkSession, uri: str) -> None:
    from delta.tables import DeltaTable

    DeltaTable.forPath(spark, uri).delete("id = 1")
    with pytest.raises(ServiceError, match="version 4 removed rows"):
        added_files(uri, read_actions(spark, uri, 4, 4))


def test_a_log_or_a_file_that_was_cleaned_up_is_a_gap(spark: SparkSession, uri: str) -> None:
    added = added_files(uri, read_actions(spark, uri, 0, 0))
    with pytest.raises(LogGapError):
        read_files(spark, uri, [*added.paths, "day=gone/part-0.parquet"])
    (Path(uri) / "_delta_log" / f"{1:020d}.json").unlink()
    with pytest.raises(LogGapError):
        read_actions(spark, uri, 0, 2)


def test_a_snapshot_is_the_table_at_its_version_despite_later_commits(spark: SparkSession, uri: str) -> None:
    state = table_state(spark, uri)
    append(spark, uri, 3)
    assert read_snapshot(spark, state).count() == 30
