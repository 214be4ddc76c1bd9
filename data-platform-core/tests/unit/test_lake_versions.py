"""History and difference of a table's versions, on real Delta tables that Spark wrote to local disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from data_platform_core.cli import app
from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.lake import diff, versions
from data_platform_core.lake.marks import batch_mark
from data_platform_core.lake.versions import Changed, TableVersions, changed_rows
from data_platform_core.settings import ObjectStoreSettings, load_settings

KEY = ("kafka_partition", "kafka_offset", "order_id", "event_id", "event_ts")


@pytest.mark.unit
@pytest.mark.parametrize(
    ("lines", "before", "changed"),
    [
        ([{"add": {"path": "a", "dataChange": True, "stats": '{"numRecords":3}'}}], {}, Changed(3, 0)),
        ([{"add": {"path": "a", "dataChange": True}}], {}, Changed(None, 0)),
        ([{"add": {"path": "b", "dataChange": False, "stats": '{"numRecords":3}'}},
          {"remove": {"path": "a", "dataChange": False}}], {"a": 3}, Changed(0, 0)),
        ([{"remove": {"path": "a", "dataChange": True}}], {"a": 3}, Changed(0, 3)),
        ([{"remove": {"path": "a", "dataChange": True}}], {}, Changed(0, None)),
        ([{"commitInfo": {}}, {"metaData": {}}], {}, Changed(0, 0)),
    ],
    ids=["append", "append without statistics", "compaction", "delete", "delete of a forgotten file", "no rows"],
)  # fmt: skip
def test_a_commits_rows_are_those_of_its_files(
    lines: list[dict[str, object]], before: dict[str, int | None], changed: Changed
) -> None:
    assert changed_rows((json.dumps(line).encode() for line in lines), lambda: before) == changed


@pytest.fixture(scope="module")
def folder(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 0 to 2 are batches of ten orders, 3 a compaction, 4 changes an order, 5 goes back to 1, 6 is batch 2."""
    from delta.tables import DeltaTable as SparkTable

    folder = tmp_path_factory.mktemp("lake") / "orders"
    for batch in range(3):
        append(spark, folder, batch)
    table = SparkTable.forPath(spark, str(folder))
    table.optimize().executeCompaction()
    table.update("kafka_offset = 25", {"amount_krw": "7L"})
    table.restoreToVersion(1)
    append(spark, folder, 2)
    return folder


def append(spark: SparkSession, folder: Path, batch: int) -> None:
    rows = spark.range(batch * 10, batch * 10 + 10, 1, 1).selectExpr(
        "CAST(id % 2 AS INT) AS kafka_partition", "id AS kafka_offset", "concat('o-', id) AS order_id",
        "concat('e-', id) AS event_id", "TIMESTAMP '2026-03-01 12:00:00' AS event_ts", "id * 100 AS amount_krw",
        "array(named_struct('quantity', id)) AS lines", "DATE '2026-03-01' AS event_date",
    )  # fmt: skip
    mark = batch_mark("ingest_orders", batch, 1)
    writer = rows.write.format("delta").mode("append").partitionBy("event_date").option("userMetadata", mark)
    writer.save(str(folder))


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStoreSettings:
    """A store that has the folder in place of every table of silver, and no table of bronze."""

    def table(_store: object, name: str, version: int | None = None) -> DeltaTable:
        if name.startswith("bronze"):
            raise ServiceError("there is no table")
        return DeltaTable(str(folder), version=version)

    def content(_store: object, key: str) -> bytes | None:
        path = folder / key.removeprefix("silver/orders/")
        return path.read_bytes() if path.is_file() else None

    for module in (versions, diff):
        monkeypatch.setattr(module, "delta_table", table)
    monkeypatch.setattr(versions, "lake_object", content)
    monkeypatch.setattr(diff, "table_rows", lambda _store, one: one.to_pyarrow_dataset())
    return load_settings("accounting", "local").object_store


@pytest.fixture
def silver(store: ObjectStoreSettings, contracts: dict[str, Contract]) -> TableVersions:
    return TableVersions(store, contracts["orders"])


@pytest.mark.spark
class TestHistory:
    def test_each_version_has_its_batch_its_rows_and_what_undid_it(self, silver: TableVersions) -> None:
        found = [
            (one.commit.version, one.commit.operation, one.batch, one.changed, one.undone_by)
            for one in silver.described(10)
        ]
        assert found == [
            (6, "WRITE", "ingest_orders 2", Changed(10, 0), None),
            (5, "RESTORE", "", Changed(20, 30), None),
            (4, "UPDATE", "", Changed(30, 30), 5),
            (3, "OPTIMIZE", "", Changed(0, 0), 5),
            (2, "WRITE", "ingest_orders 2", Changed(10, 0), 5),
            (1, "WRITE", "ingest_orders 1", Changed(10, 0), None),
            (0, "WRITE", "ingest_orders 0", Changed(10, 0), None),
        ]

    def test_a_version_is_named_by_number_or_by_time(self, silver: TableVersions) -> None:
        of_two = silver.commits()[-3].time
        assert silver.find("2") == 2
        assert silver.find(of_two.isoformat()) == 2
        assert silver.find(of_two.replace(tzinfo=None).isoformat()) == 2, "UTC unless it says otherwise"
        assert silver.find((of_two - timedelta(milliseconds=1)).isoformat()) == 1
        assert silver.find("2999-01-01") == 6

    @pytest.mark.parametrize(
        ("wanted", "said"),
        [
            ("7", "table silver/orders has no version 7; its newest is 6"),
            ("-1", "'-1' is neither a version nor a time; write 12 or 2026-03-01T12:00:00"),
            ("yesterday", "'yesterday' is neither a version nor a time"),
            (
                "2020-01-01",
                "table silver/orders has no version from before 2020-01-01 00:00:00 UTC: the oldest that its",
            ),
        ],
    )
    def test_a_version_that_is_not_there_is_one_line(self, silver: TableVersions, wanted: str, said: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            silver.find(wanted)
        assert said in str(refused.value)

    def test_a_layer_that_does_not_exist_is_one_line(
        self, store: ObjectStoreSettings, contracts: dict[str, Contract]
    ) -> None:
        with pytest.raises(ConfigurationError, match="layer 'gold' does not exist; choose one of silver, bronze"):
            TableVersions(store, contracts["orders"], "gold")


@pytest.fixture
def compare(store: ObjectStoreSettings) -> Callable[..., diff.Difference]:
    return lambda earlier, later, limit=5: diff.difference(store, "silver/orders", (earlier, later), KEY, limit)


@pytest.mark.spark
class TestDifference:
    def test_rows_of_a_batch_are_added(self, compare: Callable[..., diff.Difference]) -> None:
        found = compare(1, 2, limit=2)
        assert (found.added, found.removed, found.changed) == (10, 0, 0)
        assert [row[:5] for row in found.examples] == [("+", 0, 20, "o-20", "e-20"), ("+", 0, 22, "o-22", "e-22")]

    def test_the_other_way_round_they_are_removed(self, compare: Callable[..., diff.Difference]) -> None:
        found = compare(2, 1)
        assert (found.added, found.removed, found.changed) == (0, 10, 0)
        assert {row[0] for row in found.examples} == {"-"}

    def test_a_compaction_changes_nothing(self, compare: Callable[..., diff.Difference]) -> None:
        found = compare(2, 3)
        assert (found.added, found.removed, found.changed, found.examples) == (0, 0, 0, ())

    def test_a_changed_row_is_in_both_lists(self, compare: Callable[..., diff.Difference]) -> None:
        found = compare(2, 4)
        assert (found.added, found.removed, found.changed) == (1, 1, 1)
        assert [row[:3] for row in found.examples] == [("-", 1, 25), ("+", 1, 25)]

    def test_a_replayed_batch_has_the_rows_of_the_one_that_was_taken_back(
        self, compare: Callable[..., diff.Difference]
    ) -> None:
        assert compare(2, 6).examples == ()

    def test_a_row_that_is_there_twice_counts_twice(
        self, spark: SparkSession, folder: Path, store: ObjectStoreSettings, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        twice = tmp_path / "orders"
        append(spark, twice, 0)
        append(spark, twice, 0)
        monkeypatch.setattr(diff, "delta_table", lambda _store, _name, version: DeltaTable(str(twice), version=version))
        found = diff.difference(store, "silver/orders", (0, 1), KEY, 5)
        assert (found.added, found.removed, found.changed) == (10, 0, 0)

    def test_a_file_that_was_deleted_is_one_line(
        self, spark: SparkSession, store: ObjectStoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = tmp_path / "orders"
        append(spark, gone, 0)
        append(spark, gone, 1)
        for file in DeltaTable(str(gone), version=1).file_uris():
            Path(file.removeprefix("file://")).unlink()
        monkeypatch.setattr(diff, "delta_table", lambda _store, _name, version: DeltaTable(str(gone), version=version))
        with pytest.raises(
            ServiceError, match=r"version 1 of table .* can't be read; files that no version of the last"
        ):
            diff.difference(store, "silver/orders", (0, 1), KEY, 5)


@pytest.mark.spark
class TestCommands:
    def test_history_is_a_table_and_diff_a_line_and_its_rows(self, store: ObjectStoreSettings) -> None:
        shown = CliRunner().invoke(app, ["--env", "local", "lake", "history", "orders", "--limit", "2"]).output
        assert [line.split()[0] for line in shown.splitlines()] == ["version", "6", "5"]
        assert "RESTORE to 1" in shown
        lines = CliRunner().invoke(app, ["--env", "local", "lake", "diff", "orders", "1", "2", "--limit", "1"]).output
        assert lines.splitlines() == [
            "silver/orders, version 1 to 2: 10 rows added, 0 removed; 0 keys are in both, with other values",
            "+ kafka_partition=0 kafka_offset=20 order_id=o-20 event_id=e-20 event_ts=2026-03-01 12:00:00+00:00",
            "... and 9 more; --limit shows them",
        ]
