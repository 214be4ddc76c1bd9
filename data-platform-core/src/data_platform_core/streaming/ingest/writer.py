"""The single writer of bronze and silver: its lease, its JVM, and its exit when the lease is lost."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import structlog
from deltalake.exceptions import DeltaError

from data_platform_core.command_line import print_error
from data_platform_core.contracts import load_contracts
from data_platform_core.errors import LeaseLostError, ServiceError, UnreachableError
from data_platform_core.jobs import job
from data_platform_core.lake.fence import Fence
from data_platform_core.lake.lease import WriterLease, this_process
from data_platform_core.lake.lease_store import LeaseStore
from data_platform_core.lake.process_marks import process_mark
from data_platform_core.lake.session import jvm_process
from data_platform_core.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Between two checks for writes despite the fence, seconds.
_CHECK_EVERY_S = 30.0

log = structlog.get_logger(__name__)


class WriterProcess:
    """Holds `lease` from `acquire` on, as a job of the catalogue."""

    def __init__(self, settings: Settings, job_name: str) -> None:
        self._settings = settings
        holder = this_process(" ".join(job(job_name).command), settings.lease)
        self.lease = WriterLease(LeaseStore(settings.object_store, settings.lease), holder)
        self._jvm: psutil.Process | None = None
        self._fence: Fence | None = None
        self._next_check = 0.0

    def acquire(self, stopping: threading.Event | None = None) -> bool:
        """Acquire and keep the lease; False when `stopping` was set meanwhile. Raises as WriterLease.acquire does."""
        if not self.lease.acquire(stopping):
            return False
        self.lease.keep(self._end)
        return True

    def started(self, spark: SparkSession) -> None:
        """Report that Spark runs: from now on its JVM must have exited too before another process may write at once.

        Fences the tables if the lease's previous holder may still be running. Read no table before this call.
        """
        self._jvm = jvm_process(spark)
        if self._jvm is not None:
            self.lease.add_process(process_mark(self._jvm.pid))
        if token := self.lease.fence_token:
            self._fence = Fence(self._settings.object_store, self.lease.epoch, token)
            self._fence.raise_over(spark, load_contracts().values())
            self.lease.fenced()

    def verify_fence(self) -> None:
        """Check periodically for writes of an earlier writer despite the fence.

        Raises ServiceError when there are any: their rows may be duplicates or may have replaced others.
        """
        if self._fence is None or time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + _CHECK_EVERY_S
        try:
            broken = self._fence.broken()
        except (UnreachableError, DeltaError, OSError) as error:
            log.warning("fence not verified", reason=str(error).splitlines()[0])
            return
        if broken is not None:
            reason = (
                f"{broken}; rows may be missing or duplicated: no writer may start; find out with `crm reconcile`, and "
                "repair the table as the runbook says"
            )
            log.error("an earlier writer wrote", reason=reason)
            self.lease.block(reason)
            raise ServiceError(reason)

    def _end(self, explain: Callable[[], LeaseLostError]) -> None:
        """Exit with one line, from any thread. The JVM is frozen at once: it might be writing."""
        writers = psutil.Process().children(recursive=True)
        if self._jvm is not None and self._jvm not in writers:
            writers.append(self._jvm)  # where spark-submit runs a Python driver, it is the parent
        for process in writers:
            with suppress(psutil.Error):
                process.suspend()
        error = explain()
        print_error(error)
        for process in writers:
            with suppress(psutil.Error):
                process.kill()
        os._exit(error.exit_code)
