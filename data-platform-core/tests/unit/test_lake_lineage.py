"""Which commits made a table what it is, once a restore has taken some back; and which batch it has then."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from data_platform_core.lake.lineage import Commit, commit_of, lineage, undone
from data_platform_core.lake.marks import batch_mark
from data_platform_core.lake.tables import last_batch

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def log(*restores: tuple[int, int], newest: int) -> list[Commit]:
    """Versions 0 to `newest`; of `restores` (version, version that it went back to)."""
    to = dict(restores)
    return [
        Commit(n, NOON + timedelta(minutes=n), "RESTORE" if n in to else "WRITE", None, to.get(n))
        for n in range(newest + 1)
    ]


def versions(commits: list[Commit], of: int | None = None) -> list[int]:
    return [commit.version for commit in lineage(commits, of)]


@pytest.mark.unit
class TestLineage:
    def test_without_a_restore_every_commit_counts(self) -> None:
        assert versions(log(newest=3)) == [3, 2, 1, 0]
        assert undone(log(newest=3)) == {}

    def test_a_restore_takes_back_what_came_after_its_version(self) -> None:
        commits = log((6, 2), newest=8)
        assert versions(commits) == [8, 7, 6, 2, 1, 0]
        assert undone(commits) == {3: 6, 4: 6, 5: 6}

    def test_a_version_that_was_taken_back_has_the_line_that_it_had(self) -> None:
        assert versions(log((6, 2), newest=8), of=5) == [5, 4, 3, 2, 1, 0]

    def test_a_restore_of_a_restore_brings_back_what_that_took(self) -> None:
        commits = log((4, 1), (6, 3), newest=7)
        assert versions(commits) == [7, 6, 3, 2, 1, 0]
        assert undone(commits) == {4: 6, 5: 6}

    def test_a_restore_to_a_restore_goes_on_from_there(self) -> None:
        assert versions(log((4, 1), (6, 4), newest=6)) == [6, 4, 1, 0]

    def test_a_restore_to_the_version_before_it_takes_nothing_back(self) -> None:
        assert versions(log((3, 2), newest=3)) == [3, 2, 1, 0]

    def test_a_restore_to_a_version_that_the_log_no_longer_has_ends_the_line(self) -> None:
        recent = [commit for commit in log((6, 2), newest=8) if commit.version >= 5]
        assert versions(recent) == [8, 7, 6]

    def test_a_restore_that_names_no_version_ends_the_line(self) -> None:
        restore = commit_of({
            "version": 3, "timestamp": 0, "operation": "RESTORE",
            "operationParameters": {"version": None, "timestamp": "2026-03-01 12:00:00"},
        })  # fmt: skip
        assert versions([*log(newest=2), restore]) == [3]


BATCHES = 4
QUERY = "ingest_orders"


@pytest.fixture(scope="module")
def made(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table with batches 0 to 3 in versions 0 to 3."""
    folder = str(tmp_path_factory.mktemp("made") / "orders")
    for batch in range(BATCHES):
        append(spark, folder, batch)
    return folder


@pytest.fixture
def uri(made: str, tmp_path: Path) -> str:
    return str(shutil.copytree(made, tmp_path / "orders"))


def append(spark: SparkSession, folder: str, batch: int) -> None:
    rows = spark.range(batch * 10, batch * 10 + 10, 1, 1)
    rows.write.format("delta").mode("append").option("userMetadata", batch_mark(QUERY, batch, 1)).save(folder)


@pytest.mark.spark
class TestLastBatch:
    def test_a_batch_that_a_restore_took_back_is_not_there(self, spark: SparkSession, uri: str) -> None:
        """Counted as there, it would be skipped when the stream replays it."""
        assert last_batch(spark, uri, QUERY) == 3
        spark.sql(f"RESTORE TABLE delta.`{uri}` TO VERSION AS OF 1").collect()
        assert last_batch(spark, uri, QUERY) == 1
        append(spark, uri, 2)
        assert last_batch(spark, uri, QUERY) == 2

    def test_a_restore_by_another_client_counts_alike(self, spark: SparkSession, uri: str) -> None:
        DeltaTable(uri).restore(0)
        assert last_batch(spark, uri, QUERY) == 0

    def test_a_restore_by_time_is_not_trusted(self, spark: SparkSession, uri: str) -> None:
        moment = datetime.fromtimestamp(DeltaTable(uri).history(1)[0]["timestamp"] / 1_000, UTC)
        spark.sql(f"RESTORE TABLE delta.`{uri}` TO TIMESTAMP AS OF '{moment:%F %T.%f}'")
        assert last_batch(spark, uri, QUERY) == -1
