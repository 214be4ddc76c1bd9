"""Reading the index of seen keys back: which files, in which slices, and what does not fit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.settings import load_settings
from data_platform_core.streaming.ingest import recall
from data_platform_core.streaming.ingest.dedup import SeenIndex, joined_keys
from data_platform_core.streaming.ingest.memory import group_headrooms
from data_platform_core.streaming.ingest.recall import READING_BYTES, Recall, Slice, require_room, window_of
from data_platform_core.wire.keys import KEY_BYTES

pytestmark = pytest.mark.unit

MINUTE = 60_000
NOW = 1_700_000_000_000
TIME = pa.timestamp("us", tz="UTC")


def adds(*files: tuple[str, int | None, int | None, int | None]) -> pa.Table:
    """(path, rows, oldest and newest Kafka time in ms) as delta-rs gives them."""
    paths, rows, oldest, newest = zip(*files, strict=True) if files else ((), (), (), ())
    times = [pa.array(ms, pa.timestamp("ms", tz="UTC")).cast(TIME) for ms in (oldest, newest)]
    return pa.table(
        {"path": pa.array(paths, pa.string()), "num_records": pa.array(rows, pa.int64())}
        | {"min.kafka_ts": times[0], "max.kafka_ts": times[1]}
    )


def test_files_are_read_in_the_order_of_their_oldest_record_in_slices_of_bounded_rows() -> None:
    found = window_of(adds(("c", 60, 30, 40), ("a", 50, 10, 35), ("b", 40, 20, 25)), 1_000, slice_rows=100)
    assert found.slices == (Slice(("a", "b"), 90, 10), Slice(("c",), 60, 30))
    assert found.rows == 150


def test_a_file_that_left_the_window_is_not_read_and_one_at_its_edge_is() -> None:
    found = window_of(adds(("gone", 1, 0, 99), ("edge", 2, 0, 100), ("new", 4, 1_000, 1_100)), 1_000, 100)
    assert found.begin_ms == 100
    assert [path for each in found.slices for path in each.paths] == ["edge", "new"]


def test_a_file_larger_than_a_slice_is_a_slice_of_its_own() -> None:
    found = window_of(adds(("a", 5, 1, 1), ("b", 500, 2, 2), ("c", 5, 3, 3)), 1_000, slice_rows=100)
    assert [each.paths for each in found.slices] == [("a",), ("b",), ("c",)]


def test_a_file_without_statistics_is_read_first() -> None:
    found = window_of(adds(("a", 5, 10, 20), ("unknown", None, None, None)), 1_000, slice_rows=5)
    assert found.slices[0] == Slice(("unknown", "a"), 5, 0)


def test_an_empty_table_has_no_window() -> None:
    assert window_of(adds(), 1_000, 100).slices == ()


def test_a_window_that_fits_exactly_is_read_and_one_key_more_is_refused_with_what_it_needs() -> None:
    free = READING_BYTES + 1_000_000 * KEY_BYTES
    require_room("events", 1_000_000, free)
    with pytest.raises(ServiceError) as refused:
        require_room("events", 130_000_000, free)
    text = str(refused.value)
    assert "\n" not in text
    for part in ("events", "130,000,000 keys", "2,751 MB", "783 MB are free", "1,969 MB more", "dedup_window_minutes"):
        assert part in text


def test_a_control_group_above_the_process_counts_too(tmp_path: Path) -> None:
    own = tmp_path / "pod" / "driver"
    own.mkdir(parents=True)
    for folder, limit in ((own, "max"), (tmp_path / "pod", "1000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("700\n")
        (folder / "memory.stat").write_text("anon 600\ninactive_file 50\n")
    assert list(group_headrooms("0::/pod/driver\n", tmp_path)) == [350]


def test_in_a_container_the_group_is_the_mounts_root(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    for name, text in (("limit_in_bytes", "1000"), ("usage_in_bytes", "900"), ("stat", "total_inactive_file 10")):
        (tmp_path / "memory" / f"memory.{name}").write_text(text)
    assert list(group_headrooms("4:memory:/of/the/host\n8:pids:/\n", tmp_path)) == [110]


def test_keys_of_a_sliced_column_are_its_own() -> None:
    values = [hashlib.md5(str(number).encode()).digest() for number in range(10)]
    column = pa.chunked_array([pa.array(values[:4], pa.binary()), pa.array(values[4:], pa.binary()).slice(2, 3)])
    assert joined_keys(column) == b"".join(values[:4] + values[6:9])


@pytest.fixture
def silver(tmp_path: Path, contracts: dict[str, Contract], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where silver is read back from: a folder in place of the object store, read by the same code."""
    from deltalake import DeltaTable
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    folder = tmp_path / contracts["events"].names.silver
    monkeypatch.setattr(recall, "arrow_store", lambda _store, _root: SubTreeFileSystem(str(folder), LocalFileSystem()))
    monkeypatch.setattr(recall, "DeltaTable", lambda _uri, storage_options: DeltaTable(str(folder)))
    monkeypatch.setattr(recall, "SLICE_ROWS", 700)
    return folder


def append(folder: Path, ids: list[str], moments_ms: list[int]) -> None:
    times = pa.array(moments_ms, pa.timestamp("ms", tz="UTC")).cast(TIME)
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_deltalake(str(folder), pa.table({"event_id": ids, "kafka_ts": times}), mode="append")


def keys(ids: list[str]) -> bytes:
    return b"".join(hashlib.md5(each.encode()).digest() for each in ids)


def test_every_key_of_the_window_is_found_and_no_older_one(silver: Path, contracts: dict[str, Contract]) -> None:
    window_ms = contracts["events"].silver.dedup_window_minutes * MINUTE
    chance = np.random.default_rng(9)
    ids: list[str] = []
    ages: list[int] = []
    for number in range(6):  # each file spans two windows, as one of compaction may
        here = [f"{number}-{row}-é" for row in range(500)]
        aged = [0, window_ms, window_ms + 1, *chance.integers(0, 2 * window_ms, 497).tolist()]
        append(silver, here, [NOW - age for age in aged])
        ids += here
        ages += aged
    index, beats = SeenIndex(window_ms), list[str]()
    Recall(load_settings("streaming", "local").object_store, contracts["events"], lambda: 2**40).fill(
        index, beats.append
    )
    found = ~index.first_arrivals(keys(ids))
    assert found.tolist() == [age <= window_ms for age in ages]
    assert len(beats) == 6
    assert beats[-1].endswith("3,000 of 3,000 rows")


def test_an_index_that_was_read_back_evicts_in_time(silver: Path, contracts: dict[str, Contract]) -> None:
    """A file that spans the window must not keep its oldest keys until its newest are evicted."""
    window_ms = contracts["events"].silver.dedup_window_minutes * MINUTE
    ages = [window_ms * step // 100 for step in range(101)]
    ids = [f"aged {age}" for age in ages]
    append(silver, ids, [NOW - age for age in ages])
    index = SeenIndex(window_ms)
    Recall(load_settings("streaming", "local").object_store, contracts["events"], lambda: 2**40).fill(
        index, lambda _doing: None
    )
    index.add(keys(["new"]), NOW + window_ms // 2)
    remembered = (~index.first_arrivals(keys(ids))).tolist()
    assert all(kept for kept, age in zip(remembered, ages, strict=True) if age <= window_ms // 2)
    slack = 2 * window_ms // SeenIndex.PARTS
    assert not any(kept for kept, age in zip(remembered, ages, strict=True) if age > window_ms // 2 + slack)


def test_what_does_not_fit_is_refused_before_a_file_is_read(silver: Path, contracts: dict[str, Contract]) -> None:
    append(silver, ["a"], [NOW])
    for file in silver.rglob("*.parquet"):
        file.unlink()
    job = Recall(load_settings("streaming", "local").object_store, contracts["events"], lambda: READING_BYTES)
    with pytest.raises(ServiceError, match="holds 1 keys"):
        job.fill(SeenIndex(1_000), lambda _doing: None)


def test_a_file_that_is_gone_is_an_error_of_the_store(silver: Path, contracts: dict[str, Contract]) -> None:
    append(silver, ["a"], [NOW])
    for file in silver.rglob("*.parquet"):
        file.unlink()
    job = Recall(load_settings("streaming", "local").object_store, contracts["events"], lambda: 2**40)
    with pytest.raises(ServiceError, match="object store"):
        job.fill(SeenIndex(1_000), lambda _doing: None)


def test_times_that_spark_writes_as_int96_are_read(silver: Path, contracts: dict[str, Contract]) -> None:
    append(silver, ["a", "b"], [NOW, NOW - 1])
    file = next(iter(silver.rglob("*.parquet")))
    pq.write_table(pq.read_table(file), file, use_deprecated_int96_timestamps=True)
    index = SeenIndex(contracts["events"].silver.dedup_window_minutes * MINUTE)
    Recall(load_settings("streaming", "local").object_store, contracts["events"], lambda: 2**40).fill(
        index, lambda _doing: None
    )
    assert len(index) == 2
