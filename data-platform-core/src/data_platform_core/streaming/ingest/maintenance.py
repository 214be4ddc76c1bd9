"""Compaction during streaming: a thread of the driver, because one driver writes each table, under its lease.

Delta allows concurrent commits of an append and a compaction in one driver: neither reads what the other changes, and
the log store of a single driver assigns each version once. So a batch never waits for a compaction. They only share
cores, and a compaction uses one at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import structlog
from deltalake import DeltaTable

from data_platform_core.contracts import Contract
from data_platform_core.lake.compaction import TableCompactor, TableFiles, partitions_to_compact, table_files
from data_platform_core.lake.lease import WriterLease
from data_platform_core.lake.marks import batch_mark
from data_platform_core.lake.store import delta_options
from data_platform_core.settings import Settings
from data_platform_core.streaming.observe import metrics
from data_platform_core.wire.columns import BRONZE_PARTITION, SILVER_PARTITION

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# A round works for at most this long, seconds; the rest waits for the next round.
_ROUND_S = 20.0
# The first vacuum runs this long after start, seconds; the others a day apart.
_FIRST_VACUUM_S = 3600.0
_VACUUM_EVERY_S = 86_400.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Table:
    entity: str
    query: str
    layer: str
    folder: str
    partition: str


class Maintenance:
    """Compacts the stream's small files while the stream keeps up.

    `lag(entity)` returns the number of waiting records, `taken(uri)` the newest batch that a table has.
    """

    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        contracts: Iterable[Contract],
        lease: WriterLease,
        lag: Callable[[str], int],
        taken: Callable[[str, str], int],
    ) -> None:
        self._settings = settings
        self._compactor = TableCompactor(spark, settings.ingest.compact_file_mb)
        self._lease, self._lag, self._taken = lease, lag, taken
        self._tables = [table for contract in contracts for table in _tables(contract)]
        self._next_vacuum = time.monotonic() + _FIRST_VACUUM_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)

    def start(self) -> None:
        """Start the thread; does nothing when `compact_every_s` is 0."""
        if self._settings.ingest.compact_every_s:
            self._thread.start()

    def close(self) -> None:
        """Start no further compaction. A running one is aborted when the session stops: its commit is atomic."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._settings.ingest.compact_every_s):
            try:
                self.round()
            except Exception as error:  # the stream continues, with more files
                if not self._stop.is_set():
                    log.warning("maintenance failed", error=str(error).splitlines()[0][:300])

    def round(self) -> None:
        """Check every table once and do the due work, as far as time allows."""
        until = time.monotonic() + _ROUND_S
        for table in self._tables:
            found = self._files(table)
            metrics.TABLE_FILES.labels(table.entity, table.layer).set(found.files)
            today = datetime.now(UTC).date()
            for day in partitions_to_compact(found, self._settings.ingest.compact_min_files, today):
                if self._stop.is_set() or time.monotonic() > until or self._behind():
                    return
                self._compact(table, day, found.small[day])
        if time.monotonic() >= self._next_vacuum and not self._behind():
            self._next_vacuum = time.monotonic() + _VACUUM_EVERY_S
            self._lease.check()
            self._compactor.vacuum(self._uri(table) for table in self._tables)

    def _behind(self) -> bool:
        """Whether a backlog needs the cores: it has priority."""
        limit = self._settings.ingest.compact_below_lag
        return any(self._lag(table.entity) > limit for table in self._tables)

    def _compact(self, table: _Table, day: str, files: int) -> None:
        began = time.monotonic()
        uri = self._uri(table)
        mark = batch_mark(table.query, self._taken(table.entity, uri), self._lease.epoch)
        self._lease.check()
        self._compactor.compact(uri, table.partition, day, mark)
        metrics.COMPACTED.labels(table.entity, table.layer).inc(files)
        log.info(
            "compacted",
            entity=table.entity,
            layer=table.layer,
            day=day,
            files=files,
            seconds=round(time.monotonic() - began, 1),
        )

    def _files(self, table: _Table) -> TableFiles:
        store = self._settings.object_store
        # delta-rs reads the log without Spark: no job, and no cores of the stream.
        found = DeltaTable(f"s3://{store.lake_bucket}/{table.folder}", storage_options=delta_options(store))
        adds = pa.table(found.get_add_actions(flatten=True))
        return table_files(adds, table.partition, self._settings.ingest.compact_file_mb)

    def _uri(self, table: _Table) -> str:
        return self._settings.object_store.lake_uri(table.folder)


def _tables(contract: Contract) -> Iterable[_Table]:
    names = contract.names
    yield _Table(contract.entity, names.query, "silver", names.silver, SILVER_PARTITION)
    yield _Table(contract.entity, names.query, "bronze", names.bronze, BRONZE_PARTITION)
