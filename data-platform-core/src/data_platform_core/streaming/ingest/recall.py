"""Rebuilds the index of seen keys from silver, in slices of bounded size and without the JVM (ADR 0003).

Delta's log has each file's rows and Kafka times, so the files within the window are known before any is read. Files are
read in the order of their oldest record. Arrow reads them, DuckDB computes the keys on all cores. A compacted file may
span much of the window. Its keys go to the part of the window in which they arrived, so that the index evicts them in
time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import structlog
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from data_platform_core.contracts import IDEMPOTENCY_KEY, Contract
from data_platform_core.errors import ServiceError
from data_platform_core.lake.spark_errors import one_line, store_advice
from data_platform_core.lake.store import arrow_store, delta_options
from data_platform_core.settings import ObjectStoreSettings
from data_platform_core.streaming.ingest.dedup import SeenIndex, joined_keys
from data_platform_core.streaming.observe.metrics import RECALL_SECONDS
from data_platform_core.wire.keys import KEY_BYTES, KEY_SQL

#: Rows in flight at a time; their ids are decoded in memory, about 40 bytes each.
SLICE_ROWS = 1_000_000
#: Python's memory while reading, in addition to the index: Arrow's and DuckDB's buffers, keys that wait for their
#: segment, and the sort of one segment. Measured with `crm-experiment bench --only restart` (ADR 0003).
READING_BYTES = 768 * 2**20
_BATCH_ROWS = 131_072
#: Minimum interval between progress lines, seconds.
_LOG_EVERY_S = 10.0
_MB = 2**20
_SCHEMA = pa.schema([(IDEMPOTENCY_KEY, pa.string()), ("kafka_ts", pa.timestamp("us", tz="UTC"))])
# Spark writes times as INT96, which Arrow would read as nanoseconds.
_PARQUET = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(coerce_int96_timestamp_unit="us"))

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Slice:
    """Files that are read together, with their row count from the log; no key of a later slice is older."""

    paths: tuple[str, ...]
    rows: int
    oldest_ms: int


@dataclass(frozen=True)
class Window:
    """The part of a table within the deduplication window. `rows` counts whole files, an upper bound of the keys."""

    begin_ms: int
    slices: tuple[Slice, ...]

    @property
    def rows(self) -> int:
        return sum(each.rows for each in self.slices)


def window_of(adds: pa.Table, window_ms: int, slice_rows: int) -> Window:
    """The slices to read from `adds`: delta-rs's `get_add_actions(flatten=True)`.

    A file without statistics is always read, and first.
    """
    if not adds.num_rows:
        return Window(0, ())
    oldest, newest = (_milliseconds(adds, f"{end}.kafka_ts") for end in ("min", "max"))
    known = [ms for ms in newest if ms is not None]
    begin_ms = max(known) - window_ms if known else 0
    rows = [count or 0 for count in adds["num_records"].to_pylist()]
    files = sorted(
        (first if first is not None and last is not None else 0, path, count)
        for first, last, path, count in zip(oldest, newest, adds["path"].to_pylist(), rows, strict=True)
        if last is None or last >= begin_ms
    )
    return Window(begin_ms, tuple(_slices(files, slice_rows)))


def _slices(files: list[tuple[int, str, int]], slice_rows: int) -> Iterator[Slice]:
    paths: list[str] = []
    total = oldest_ms = 0
    for first_ms, path, rows in files:
        if paths and total + rows > slice_rows:
            yield Slice(tuple(paths), total, oldest_ms)
            paths, total = [], 0
        if not paths:
            oldest_ms = first_ms
        paths.append(path)
        total += rows
    if paths:
        yield Slice(tuple(paths), total, oldest_ms)


def _milliseconds(adds: pa.Table, column: str) -> list[int | None]:
    """A timestamp of each file's statistics. Delta truncates them to milliseconds, the precision of Kafka's times."""
    if column not in adds.column_names:
        return [None] * adds.num_rows
    return list(adds[column].cast(pa.timestamp("ms", tz="UTC"), safe=False).cast(pa.int64()).to_pylist())


def require_room(entity: str, rows: int, free: int) -> None:
    """Raises ServiceError with the missing memory when an index of `rows` keys does not fit in `free` bytes."""
    need = rows * KEY_BYTES + READING_BYTES
    if need > free:
        raise ServiceError(
            f"the deduplication window of {entity} holds {rows:,} keys, which need {need // _MB:,} MB "
            f"({KEY_BYTES} bytes each, {READING_BYTES // _MB} MB to read them), and {max(0, free) // _MB:,} MB are "
            f"free beside the JVM's share: give the machine or container {(need - free) // _MB + 1:,} MB more, or "
            f"lower silver.dedup_window_minutes in contracts/{entity}/contract.yaml"
        )


class Recall:
    """Fills an index from one entity's silver. `free` returns the bytes available to the index and to reading."""

    def __init__(self, store: ObjectStoreSettings, contract: Contract, free: Callable[[], int]) -> None:
        self._store, self._entity = store, contract.entity
        self._root = f"{store.lake_bucket}/{contract.names.silver}"
        self._window_ms = contract.silver.dedup_window_minutes * 60_000
        self._free = free

    def fill(self, index: SeenIndex, beat: Callable[[str], None]) -> None:
        """Read every key of the window; `beat` is called with the progress after each slice.

        Raises ServiceError when it does not fit, or the object store fails.
        """
        try:
            self._fill(index, beat)
        except (OSError, DeltaError, duckdb.Error) as error:  # DuckDB passes through Arrow's errors
            raise ServiceError(store_advice(self._store, one_line(str(error)))) from None

    def _fill(self, index: SeenIndex, beat: Callable[[str], None]) -> None:
        began = logged_at = time.monotonic()
        window = self._window()
        require_room(self._entity, window.rows, self._free())
        parts = _Parts(index, self._window_ms)
        files = arrow_store(self._store, self._root)
        read = 0
        for each in window.slices:
            parts.finish_before(each.oldest_ms)
            for keys, times in _read(files, each, window.begin_ms):
                parts.add(keys, times)
            read += each.rows
            doing = f"reading the index of {self._entity} back: {read:,} of {window.rows:,} rows"
            beat(doing)
            if time.monotonic() - logged_at >= _LOG_EVERY_S:
                logged_at = time.monotonic()
                log.info(doing, seconds=round(logged_at - began))
        parts.finish()
        seconds = time.monotonic() - began
        RECALL_SECONDS.labels(self._entity).set(seconds)
        log.info("seen index read back", entity=self._entity, keys=len(index), seconds=round(seconds, 1))

    def _window(self) -> Window:
        table = DeltaTable(f"s3://{self._root}", storage_options=delta_options(self._store))
        if table.protocol().min_reader_version > 1:  # then a data file may contain more than plain rows
            raise ServiceError(f"table {table.table_uri} uses a feature of Delta that the stream does not read")
        return window_of(pa.table(table.get_add_actions(flatten=True)), self._window_ms, SLICE_ROWS)


def _read(files: object, each: Slice, begin_ms: int) -> Iterator[tuple[bytes, npt.NDArray[np.int64]]]:
    """The keys of a slice within the window, and their Kafka times in milliseconds, in chunks."""
    fragments = [_PARQUET.make_fragment(unquote(path), files) for path in each.paths]
    rows = ds.FileSystemDataset(fragments, _SCHEMA, _PARQUET, files).scanner(
        columns={IDEMPOTENCY_KEY: ds.field(IDEMPOTENCY_KEY), "us": ds.field("kafka_ts").cast(pa.int64())},
        filter=ds.field("kafka_ts") >= pa.scalar(begin_ms * 1000, pa.int64()).cast(_SCHEMA.field("kafka_ts").type),
        batch_size=_BATCH_ROWS,
        batch_readahead=4,
        fragment_readahead=4,
    )
    with duckdb.connect() as connection:
        keys = connection.from_arrow(rows.to_reader()).project(f"{KEY_SQL} AS id, us // 1000 AS ms")
        for batch in keys.to_arrow_reader(_BATCH_ROWS):
            yield joined_keys(batch.column("id")), batch.column("ms").to_numpy()


class _Parts:
    """Keys by the part of the window in which they arrived, until they become a segment of the index."""

    def __init__(self, index: SeenIndex, window_ms: int) -> None:
        self._index = index
        self._part_ms = max(1, window_ms // SeenIndex.PARTS)
        self._waiting: dict[int, list[tuple[npt.NDArray[np.void], int, int]]] = {}

    def add(self, keys: bytes, times: npt.NDArray[np.int64]) -> None:
        every = np.frombuffer(keys, dtype=f"V{KEY_BYTES}")
        parts = times // self._part_ms
        for part in np.unique(parts).tolist():
            here = parts == part
            chosen, moments = every[here], times[here]
            self._waiting.setdefault(part, []).append((chosen, int(moments.min()), int(moments.max())))
            if sum(len(piece[0]) for piece in self._waiting[part]) >= SLICE_ROWS:
                self._finish(part)

    def finish_before(self, oldest_ms: int) -> None:
        """Turn the parts that can't receive an older key any more into segments."""
        for part in sorted(self._waiting):
            if (part + 1) * self._part_ms <= oldest_ms:
                self._finish(part)

    def finish(self) -> None:
        for part in sorted(self._waiting):
            self._finish(part)

    def _finish(self, part: int) -> None:
        keys, first, newest = zip(*self._waiting.pop(part), strict=True)
        self._index.add(b"".join(piece.tobytes() for piece in keys), max(newest), min(first))
