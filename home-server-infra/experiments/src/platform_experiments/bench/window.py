"""A full deduplication window, written straight into silver while no driver runs.

The rows are what the index of seen keys is read back from: event ids of 36 characters and Kafka times spread over the
window, in files as compaction leaves them and a tail of small ones as the stream leaves them. Every other column is
null, so nothing but a restart may read this table afterwards.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.lake.marks import RECENT_COMMITS, batch_mark, batch_of
from data_platform_core.lake.store import delta_options
from data_platform_core.settings import Settings
from data_platform_core.wire.columns import SILVER_PARTITION

#: Rows of a file that compaction has made: about 64 MB of events.
_ROWS_PER_FILE = 1_000_000
#: The newest rows lie as a stream at 3,000/s leaves them until compaction comes: a file for each second.
_SMALL_FILES, _ROWS_PER_SMALL_FILE = 200, 3_000
_HYPHENS = (8, 13, 18, 23)


def fill_window(settings: Settings, contract: Contract, keys: int) -> None:
    """Add `keys` rows to silver, spread over the contract's window up to now. The stream must be stopped.

    Each commit carries the mark of the newest batch that the table has, as compaction's do. Raises ServiceError when
    no batch has been committed yet.
    """
    store = settings.object_store
    uri, options = f"s3://{store.lake_bucket}/{contract.names.silver}", delta_options(store)
    table = DeltaTable(uri, storage_options=options)
    mark = _newest_mark(table, contract.names.query)
    schema = pa.schema(table.schema().to_arrow())
    end_ms = int(time.time() * 1000)
    begin_ms = end_ms - contract.silver.dedup_window_minutes * 60_000
    written = 0
    for rows in _file_sizes(keys):
        moments = begin_ms + (np.arange(written, written + rows) * (end_ms - begin_ms)) // keys
        write_deltalake(
            uri,
            _rows(schema, moments),
            mode="append",
            storage_options=options | {"aws_conditional_put": "etag"},
            commit_properties=CommitProperties(custom_metadata={"userMetadata": mark}),
        )
        written += rows


def _file_sizes(keys: int) -> Iterator[int]:
    small = min(_SMALL_FILES * _ROWS_PER_SMALL_FILE, keys // 10)
    for total, size in ((keys - small, _ROWS_PER_FILE), (small, _ROWS_PER_SMALL_FILE)):
        yield from (min(size, total - done) for done in range(0, total, size))


def _newest_mark(table: DeltaTable, query: str) -> str:
    notes = (commit.get("userMetadata") for commit in table.history(RECENT_COMMITS))
    newest = max((batch_of(note, query) for note in notes), default=-1)
    if newest < 0:
        raise ServiceError(f"table {table.table_uri} has no batch of {query} yet; let the stream run first")
    return batch_mark(query, newest)


def _rows(schema: pa.Schema, moments_ms: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Table:
    count = len(moments_ms)
    times = pa.array(moments_ms * 1000, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    known = {"event_id": _uuids(count), "kafka_ts": times, SILVER_PARTITION: times.cast(pa.date32())}
    columns = [known[f.name].cast(f.type) if f.name in known else pa.nulls(count, f.type) for f in schema]
    return pa.table(columns, schema=schema)


def _uuids(count: int) -> pa.Array:
    """Random ids as UUIDs are written: 36 characters."""
    digits = np.frombuffer(os.urandom(16 * count).hex().encode(), dtype=np.uint8).reshape(count, 32)
    text = np.insert(digits, [place - number for number, place in enumerate(_HYPHENS)], ord("-"), axis=1)
    offsets = np.arange(0, 36 * count + 1, 36, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(text)))
