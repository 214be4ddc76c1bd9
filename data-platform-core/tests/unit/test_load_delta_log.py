"""Which files added new rows, and how a load resumes after the last one."""

from __future__ import annotations

import pytest

from data_platform_core.batch.delta_log import AddedFiles, LogAction, TableState, added_files
from data_platform_core.batch.load_warehouse import next_mode
from data_platform_core.errors import ServiceError
from data_platform_core.warehouse.loads import LastLoad

pytestmark = pytest.mark.unit

URI = "s3a://lake/silver/orders"


def add(version: int, path: str, rows: int | None = 1, *, data_change: bool = True, dv: bool = False) -> LogAction:
    return LogAction(version, "add", path, data_change, rows, dv)


def remove(version: int, path: str, *, data_change: bool) -> LogAction:
    return LogAction(version, "remove", path, data_change)


def test_every_appended_file_counts_once_with_its_rows() -> None:
    assert added_files(URI, [add(1, "a", 3), add(1, "b", 4), add(2, "c", 5)]) == AddedFiles(("a", "b", "c"), 12)


def test_compaction_adds_no_rows_and_removes_none() -> None:
    compaction = [
        remove(2, "a", data_change=False),
        remove(2, "b", data_change=False),
        add(2, "ab", 7, data_change=False),
    ]
    assert added_files(URI, [add(1, "a", 3), *compaction, add(3, "c", 5)]) == AddedFiles(("a", "c"), 8)


def test_nothing_was_added_by_no_commit() -> None:
    assert added_files(URI, []) == AddedFiles((), 0)


def test_a_file_without_a_count_leaves_the_total_unknown() -> None:
    assert added_files(URI, [add(1, "a", 3), add(1, "b", None), add(2, "c", 4)]).rows is None


@pytest.mark.parametrize("action", [remove(7, "a", data_change=True), add(7, "a", dv=True)])
def test_a_commit_that_removed_rows_is_refused_with_the_way_out(action: LogAction) -> None:
    with pytest.raises(ServiceError, match=r"version 7 removed rows.*--rebuild.*--full-refresh"):
        added_files(URI, [add(6, "x"), action])


def test_the_next_load_resumes_where_the_last_one_ended() -> None:
    state = TableState(URI, "table-1", 9)
    assert next_mode(state, None) == "snapshot"
    assert next_mode(state, LastLoad("table-1", 4)) == "incremental"
    assert next_mode(state, LastLoad("table-1", 9)) is None
    assert next_mode(state, LastLoad("table-1", 9), rebuild=True) == "rebuild"


def test_a_recreated_table_is_read_completely() -> None:
    assert next_mode(TableState(URI, "table-2", 3), LastLoad("table-1", 3)) == "snapshot"


def test_a_table_older_than_what_was_loaded_from_it_is_refused() -> None:
    with pytest.raises(ServiceError, match=r"at version 3, but version 4 of it has been loaded.*--rebuild"):
        next_mode(TableState(URI, "table-1", 3), LastLoad("table-1", 4))
