"""Latency of records from `produced_ts` to the commit that makes them visible in silver.

Read from the table's own log, with no code shared with the writer: a commit's time is the object store's time of
its log entry, a record's time is its `produced_ts`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from minio import Minio


@dataclass(frozen=True)
class Latency:
    """Seconds; `records` were committed in `commits` commits."""

    records: int
    commits: int
    p50: float
    p95: float
    p99: float
    highest: float


def commit_latency(store: Minio, bucket: str, table: str, run_id: str, since: datetime) -> Latency | None:
    """The latency of the records of `run_id` committed to a table (its folder) after `since` (UTC); None for none."""
    files = list(table_commits(store, bucket, table, run_id, since))
    if not files:
        return None
    every = np.concatenate([file.waits for file in files])
    p50, p95, p99, highest = np.percentile(every, [50, 95, 99, 100])
    commits = len({file.version for file in files})
    return Latency(len(every), commits, float(p50), float(p95), float(p99), float(highest))


@dataclass(frozen=True)
class Commit:
    """The rows of one run that one file of one commit brought, with the columns asked for; `at` is seconds of 1970."""

    version: int
    at: float
    rows: pa.Table

    @property
    def produced(self) -> npt.NDArray[np.float64]:
        """When each row was produced, seconds of 1970."""
        stamps = self.rows["produced_ts"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
        return np.asarray(stamps.to_numpy() / 1e6, dtype=np.float64)

    @property
    def waits(self) -> npt.NDArray[np.float64]:
        """Seconds from produced to committed, by row."""
        return self.at - self.produced


def table_commits(
    store: Minio, bucket: str, table: str, run_id: str, since: datetime, columns: Sequence[str] = ()
) -> Iterator[Commit]:
    """What was committed to a table (its folder) of `run_id` after `since` (UTC), file by file.

    `columns` are read beside `run_id` and `produced_ts`, which the table must have.
    """
    folder = f"{table}/"
    for item in store.list_objects(bucket, f"{folder}_delta_log/"):
        if not item.object_name.endswith(".json") or item.last_modified <= since:
            continue
        version = int(item.object_name.rsplit("/", 1)[1].removesuffix(".json"))
        for path in _added(_read(store, bucket, item.object_name)):
            rows = _rows(_read(store, bucket, folder + path), run_id, columns)
            if len(rows):
                yield Commit(version, item.last_modified.astimezone(UTC).timestamp(), rows)


def _read(store: Minio, bucket: str, key: str) -> bytes:
    response = store.get_object(bucket, key)
    try:
        return bytes(response.read())
    finally:
        response.close()
        response.release_conn()


def _added(commit: bytes) -> list[str]:
    actions = (json.loads(line) for line in commit.splitlines() if line)
    return [unquote(action["add"]["path"]) for action in actions if action.get("add", {}).get("dataChange")]


def _rows(parquet: bytes, run_id: str, columns: Sequence[str]) -> pa.Table:
    rows = pq.read_table(io.BytesIO(parquet), columns=["run_id", "produced_ts", *columns])
    return rows.filter(pc.equal(rows["run_id"], run_id))
