"""Logs the progress of a Spark job every few seconds: its finished tasks."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_INTERVAL_S = 3.0

log = structlog.get_logger(__name__)


class JobProgress:
    """While the context lasts, jobs of this thread belong to `group` and are reported with `labels`."""

    def __init__(self, spark: SparkSession, group: str, **labels: Any) -> None:
        self._context = spark.sparkContext
        self._group = group
        self._labels = labels
        self._ended = threading.Event()
        self._reporter = threading.Thread(target=self._report, name=f"progress {group}", daemon=True)

    def __enter__(self) -> JobProgress:
        self._context.setJobGroup(self._group, self._group)
        self._reporter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._reporter.join()

    def _report(self) -> None:
        while not self._ended.wait(_INTERVAL_S):
            done, total = self._tasks()
            log.info("copying", **self._labels, tasks_done=done, tasks=total)

    def _tasks(self) -> tuple[int, int]:
        tracker = self._context.statusTracker()
        jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(self._group)]
        stages = [tracker.getStageInfo(stage) for job in jobs if job for stage in job.stageIds]
        known = [stage for stage in stages if stage]
        return sum(stage.numCompletedTasks for stage in known), sum(stage.numTasks for stage in known)
