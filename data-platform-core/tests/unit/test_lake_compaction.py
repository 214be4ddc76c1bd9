"""Which days are worth compacting, and the mark that a compaction's commit keeps."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from data_platform_core.lake.compaction import TableCompactor, TableFiles, partitions_to_compact, table_files
from data_platform_core.lake.marks import batch_mark, batch_of

TODAY = date(2026, 3, 2)
MB = 2**20


def adds(*files: tuple[date | None, int]) -> pa.Table:
    """Live files as delta-rs lists them: day and bytes."""
    days, sizes = zip(*files, strict=True)
    return pa.table({"partition.event_date": pa.array(days, pa.date32()), "size_bytes": pa.array(sizes, pa.int64())})


@pytest.mark.unit
def test_small_files_are_counted_by_day_and_large_ones_left_alone() -> None:
    files = adds((TODAY, MB), (TODAY, MB), (TODAY, 8 * MB), (date(2026, 3, 1), 3 * MB))
    assert table_files(files, "event_date", 16) == TableFiles(4, {"2026-03-02": 2, "2026-03-01": 1})


@pytest.mark.unit
def test_a_table_without_files_has_nothing_to_compact() -> None:
    assert table_files(pa.table({"path": pa.array([], pa.string())}), "event_date", 16) == TableFiles(0, {})


@pytest.mark.unit
def test_todays_partition_waits_for_the_full_number_of_files() -> None:
    assert partitions_to_compact(TableFiles(9, {"2026-03-02": 9}), 10, TODAY) == []
    assert partitions_to_compact(TableFiles(10, {"2026-03-02": 10}), 10, TODAY) == ["2026-03-02"]


@pytest.mark.unit
def test_a_day_that_is_over_is_compacted_sooner_but_never_for_one_file() -> None:
    found = TableFiles(4, {"2026-02-27": 1, "2026-02-28": 2, "2026-03-02": 3})
    assert partitions_to_compact(found, 10, TODAY) == ["2026-02-28"]
    assert partitions_to_compact(found, 2, TODAY) == ["2026-03-02", "2026-02-28"]


@pytest.mark.unit
def test_the_worst_day_comes_first() -> None:
    found = TableFiles(60, {"2026-02-27": 20, "2026-02-28": 40})
    assert partitions_to_compact(found, 10, TODAY) == ["2026-02-28", "2026-02-27"]


@pytest.mark.unit
def test_a_mark_is_read_back_by_its_own_query_only() -> None:
    mark = batch_mark("ingest_events", 7)
    assert batch_of(mark, "ingest_events") == 7
    assert batch_of(mark, "ingest_orders") == -1


@pytest.mark.unit
@pytest.mark.parametrize("note", [None, "", "by hand", "[1]", "7", '{"query": "ingest_events"}'])
@pytest.mark.unit
def test_another_writers_note_is_no_mark(note: str | None) -> None:
    assert batch_of(note, "ingest_events") == -1


@pytest.mark.spark
def test_compaction_carries_the_newest_batchs_mark_and_keeps_every_row(spark: SparkSession, tmp_path: Path) -> None:
    uri = str(tmp_path / "events")
    for number in range(3):
        rows = spark.range(number * 10, number * 10 + 10, 1, 1).selectExpr("id", "DATE'2026-03-01' AS event_date")
        rows.write.format("delta").mode("append").partitionBy("event_date").save(uri)
    TableCompactor(spark, target_mb=16).compact(
        uri, "event_date", "2026-03-01", batch_mark("ingest_events", 7, epoch=3)
    )
    table = DeltaTable(uri)
    newest = table.history(1)[0]
    assert newest["operation"] == "OPTIMIZE"
    assert batch_of(newest["userMetadata"], "ingest_events") == 7
    assert len(table.file_uris()) == 1
    assert sorted(table.to_pyarrow_table()["id"].to_pylist()) == list(range(30))
