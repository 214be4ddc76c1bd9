"""Merges a Delta table's small files, partition by partition; rows are unchanged (`dataChange` false).

A stream writes a file per batch and table. Only the process that writes a table may compact it. The caller must ensure
that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_BYTES_PER_MB = 2**20
#: A file of this fraction of the target size is skipped, so that no row is rewritten repeatedly.
_LARGE_ENOUGH = 0.5
#: A past day gets few more files, so its threshold for a last pass is lower than for the current day.
_CLOSED_DAY_SHARE = 5
#: Retention of unreferenced files, hours: a reader may still be running, and the warehouse's load reads what was added
#: since its last run. Delta's own minimum.
VACUUM_KEEPS_HOURS = 168


@dataclass(frozen=True)
class TableFiles:
    """A table's live files: the total, and the number of small ones by partition value (a day, ISO)."""

    files: int
    small: dict[str, int]


def table_files(adds: pa.Table, partition: str, target_mb: int) -> TableFiles:
    """Count the files of `adds`: delta-rs's `get_add_actions(flatten=True)`."""
    if not adds.num_rows:  # then delta-rs omits the partition column too
        return TableFiles(0, {})
    days = adds[f"partition.{partition}"].cast("string")
    small = pc.less(adds["size_bytes"], int(target_mb * _BYTES_PER_MB * _LARGE_ENOUGH))
    return TableFiles(adds.num_rows, dict(Counter(day for day in days.filter(small).to_pylist() if day is not None)))


def partitions_to_compact(found: TableFiles, min_files: int, today: date) -> list[str]:
    """Days with at least `min_files` small files, the worst first; for a past day a fifth is enough."""
    closed = max(2, min_files // _CLOSED_DAY_SHARE)
    due = {
        day: count for day, count in found.small.items() if count >= (closed if day < today.isoformat() else min_files)
    }
    return sorted(due, key=lambda day: due[day], reverse=True)


class TableCompactor:
    """Compacts and vacuums tables in a separate session, so that its settings affect no other writer."""

    def __init__(self, spark: SparkSession, target_mb: int) -> None:
        self._spark = spark.newSession()
        optimize = "spark.databricks.delta.optimize"
        self._spark.conf.set(f"{optimize}.maxFileSize", str(target_mb * _BYTES_PER_MB))
        self._spark.conf.set(f"{optimize}.minFileSize", str(int(target_mb * _BYTES_PER_MB * _LARGE_ENOUGH)))
        # One file at a time: the other cores continue with the stream.
        self._spark.conf.set(f"{optimize}.maxThreads", "1")

    def compact(self, uri: str, partition: str, day: str, mark: str) -> None:
        """Merge the small files of one day. `mark` is the commit tag of the table's newest batch."""
        from delta.tables import DeltaTable

        # So the tag stays in the newest commits, and in the log, even when the stream is idle for long.
        self._spark.conf.set("spark.databricks.delta.commitInfo.userMetadata", mark)
        DeltaTable.forPath(self._spark, uri).optimize().where(f"{partition} = '{day}'").executeCompaction()

    def vacuum(self, uris: Iterable[str]) -> None:
        """Delete files that no version of the last VACUUM_KEEPS_HOURS needs."""
        from delta.tables import DeltaTable

        for uri in uris:
            DeltaTable.forPath(self._spark, uri).vacuum(VACUUM_KEEPS_HOURS)
