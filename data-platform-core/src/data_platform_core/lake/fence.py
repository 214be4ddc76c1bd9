"""Fences a previous writer that may still be running, and detects writes of it that succeeded (ADR 0021).

A new writer changes a property of each table. Delta fails every transaction that began before such a change and
commits after it. Two gaps remain, because the log's put on S3 is not conditional. A writer that was paused between
Delta's listing of the next version and its put overwrites the fencing commit. A writer that was paused between its
check of the lease and Delta's first read of the table begins after it. Both are visible in the log afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltalake import DeltaTable

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.lake.marks import epoch_of
from data_platform_core.lake.store import delta_options, lake_object
from data_platform_core.settings import ObjectStoreSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: The property that is changed; its value is unique to this writer.
FENCE_PROPERTY = "crm.fence"
#: The fencing commit is our newest one, and nearly always the table's newest.
_RECENT = 20


@dataclass
class _Fenced:
    folder: str
    version: int
    seen: int


class Fence:
    """The fence of the writer with `epoch`. It reads the tables' logs with delta-rs, bypassing Spark's caches."""

    def __init__(self, store: ObjectStoreSettings, epoch: int, token: str) -> None:
        self._store, self._epoch, self._token = store, epoch, token
        self._tables: list[_Fenced] = []

    def raise_over(self, spark: SparkSession, contracts: Iterable[Contract]) -> None:
        """Fence the existing tables; a missing table has no other writer."""
        from delta.tables import DeltaTable as SparkTable

        for contract in contracts:
            for folder in (contract.names.bronze, contract.names.silver):
                uri = self._store.lake_uri(folder)
                if SparkTable.isDeltaTable(spark, uri):
                    spark.sql(f"ALTER TABLE delta.`{uri}` SET TBLPROPERTIES ('{FENCE_PROPERTY}' = '{self._token}')")
                    self.stands_at(folder)

    def stands_at(self, folder: str) -> None:
        """Watch the fence that this table has. Raises ServiceError when its newest commits lack it."""
        for commit in self._table(folder).history(_RECENT):
            if self._token in str(commit.get("operationParameters")):
                self._tables.append(_Fenced(folder, int(commit["version"]), int(commit["version"])))
                return
        raise ServiceError(f"table {folder}: {self._overwritten}")

    def broken(self) -> str | None:
        """One line about an earlier writer's writes despite the fence; None if there are none."""
        for fenced in self._tables:
            content = lake_object(self._store, f"{fenced.folder}/_delta_log/{fenced.version:020d}.json")
            if content is not None and self._token.encode() not in content:
                return f"table {fenced.folder}, version {fenced.version}: {self._overwritten}"
            table = self._table(fenced.folder)
            newest = table.version()
            for commit in table.history(max(1, newest - fenced.seen)):
                epoch = epoch_of(commit.get("userMetadata"))
                if commit["version"] > fenced.seen and 0 < epoch < self._epoch:
                    return (
                        f"table {fenced.folder}, version {commit['version']}: written under epoch {epoch} of the lease "
                        f"after epoch {self._epoch} took over"
                    )
            fenced.seen = newest
        return None

    @property
    def _overwritten(self) -> str:
        return f"the commit with which epoch {self._epoch} of the lease took over was overwritten by an earlier writer"

    def _table(self, folder: str) -> DeltaTable:
        return DeltaTable(f"s3://{self._store.lake_bucket}/{folder}", storage_options=delta_options(self._store))
