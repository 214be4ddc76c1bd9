"""Which days are worth compacting, and the mark that compaction carries along."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pytest

from data_platform_core.lake.compaction import TableFiles, partitions_to_compact, table_files
from data_platform_core.lake.marks import batch_mark, batch_of

pytestmark = pytest.mark.unit

TODAY = date(2026, 3, 2)
MB = 2**20


def adds(*files: tuple[date | None, int]) -> pa.Table:
    """Live files as delta-rs tells of them: day and bytes."""
    days, sizes = zip(*files, strict=True)
    return pa.table({"partition.event_date": pa.array(days, pa.date32()), "size_bytes": pa.array(sizes, pa.int64())})


def test_small_files_are_counted_by_day_and_large_ones_left_alone() -> None:
    files = adds((TODAY, MB), (TODAY, MB), (TODAY, 8 * MB), (date(2026, 3, 1), 3 * MB))
    assert table_files(files, "event_date", 16) == TableFiles(4, {"2026-03-02": 2, "2026-03-01": 1})


def test_a_table_without_files_has_nothing_to_compact() -> None:
    assert table_files(pa.table({"path": pa.array([], pa.string())}), "event_date", 16) == TableFiles(0, {})


def test_todays_partition_waits_for_the_full_number_of_files() -> None:
    assert partitions_to_compact(TableFiles(9, {"2026-03-02": 9}), 10, TODAY) == []
    assert partitions_to_compact(TableFiles(10, {"2026-03-02": 10}), 10, TODAY) == ["2026-03-02"]


def test_a_day_that_is_over_is_compacted_sooner_but_never_for_one_file() -> None:
    found = TableFiles(4, {"2026-02-27": 1, "2026-02-28": 2, "2026-03-02": 3})
    assert partitions_to_compact(found, 10, TODAY) == ["2026-02-28"]
    assert partitions_to_compact(found, 2, TODAY) == ["2026-03-02", "2026-02-28"]


def test_the_worst_day_comes_first() -> None:
    found = TableFiles(60, {"2026-02-27": 20, "2026-02-28": 40})
    assert partitions_to_compact(found, 10, TODAY) == ["2026-02-28", "2026-02-27"]


def test_a_mark_is_read_back_by_its_own_query_only() -> None:
    mark = batch_mark("ingest_events", 7)
    assert batch_of(mark, "ingest_events") == 7
    assert batch_of(mark, "ingest_orders") == -1


@pytest.mark.parametrize("note", [None, "", "by hand", "[1]", "7", '{"query": "ingest_events"}'])
def test_another_writers_note_is_no_mark(note: str | None) -> None:
    assert batch_of(note, "ingest_events") == -1
