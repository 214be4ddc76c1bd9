"""The streaming driver: wait for its services, start one query per entity, run until it is stopped.

It runs under a supervisor (supervisord locally, the Spark operator on Kubernetes). When a query fails, the driver exits
with a non-zero code and the supervisor restarts it from the checkpoint. An outage ends the queries; the next driver
waits for the service before it starts Spark (`waiting.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import structlog
from py4j.protocol import Py4JNetworkError

from data_platform_core.contracts import Contract, load_contract, load_contracts
from data_platform_core.errors import ServiceError, UnreachableError
from data_platform_core.kafka.client import KAFKA
from data_platform_core.lake.session import OUT_OF_MEMORY_EXIT, jvm_process, spark_session
from data_platform_core.lake.spark_errors import spark_errors
from data_platform_core.lake.tables import ensure_tables
from data_platform_core.settings import Settings
from data_platform_core.streaming.observe.watchdog import Watchdog
from data_platform_core.streaming.stopping import Stopped, Stopping

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from data_platform_core.streaming.ingest.writer import WriterProcess
    from data_platform_core.streaming.observe.lag import LagWatch

# A JVM whose socket is closed has exited or is about to, seconds.
_JVM_EXIT_S = 5.0

log = structlog.get_logger(__name__)


def run(settings: Settings, entities: Sequence[str] = ()) -> None:
    """Ingest `entities` (default: all) until SIGTERM or SIGINT.

    Raises LeaseHeldError when another process writes the tables, ServiceError when a topic, a subject, the object store
    or a checkpoint is unavailable or misconfigured, when the deduplication window does not fit in memory, or when a
    query fails while running. If a service does not answer at the start, the driver waits for it.
    """
    from data_platform_core.streaming.ingest.writer import WriterProcess
    from data_platform_core.streaming.observe.lag import LagWatch
    from data_platform_core.streaming.observe.metrics import serve_metrics
    from data_platform_core.streaming.observe.waiting import checks, wait_for_services

    contracts = {entity: load_contract(entity) for entity in entities} if entities else load_contracts()
    stopping = Stopping().on_signals()
    writer = WriterProcess(settings, "ingest")
    _refuse_address_in_use(settings, writer, stopping)
    watch = LagWatch(settings, contracts.values())
    watchdog = Watchdog(settings.ingest.hang_s, watch.waiting)
    serve_metrics(settings, watchdog.not_alive, watchdog.not_ready)
    if not wait_for_services(checks(settings, contracts), stopping) or not writer.acquire(stopping):
        return
    watchdog.start()
    with suppress(Stopped):
        _Driver(settings, contracts, watch, watchdog, writer, stopping).run()


def _refuse_address_in_use(settings: Settings, writer: WriterProcess, stopping: Stopping) -> None:
    """Raises LeaseHeldError when another driver runs: more useful than `address in use`, which it would cause."""
    from data_platform_core.streaming.observe.metrics import refuse_address_in_use

    try:
        refuse_address_in_use(settings)
    except ServiceError:
        with suppress(UnreachableError):
            writer.lease.acquire(stopping)
            writer.lease.release()
        raise


@dataclass(frozen=True)
class _Driver:
    """What a driver holds from before Spark's start to its end."""

    settings: Settings
    contracts: dict[str, Contract]
    watch: LagWatch
    watchdog: Watchdog
    writer: WriterProcess
    stopping: Stopping

    def run(self) -> None:
        """Start Spark, stream until stopped, end both and give the lease back."""
        with self.stopping.interrupts():
            spark = spark_session(self.settings, "crm-streaming")
        jvm = jvm_process(spark)
        self.watchdog.jvm(jvm)
        self.stopping.on_signals()  # PySpark has replaced the SIGINT handler with one that calls the JVM
        try:
            with spark_errors(lambda found: f"streaming can't start: {found.text}; see the log above", KAFKA):
                self._stream(spark)
        except (Py4JNetworkError, ConnectionError):  # a call on its closed socket raises Python's own error
            raise ServiceError(f"Spark's JVM has ended{_exit_of(jvm)}; see the log above") from None
        finally:
            self.stopping.force_later()
            if _stopped(spark):
                self.writer.lease.release()

    def _stream(self, spark: SparkSession) -> None:
        from data_platform_core.streaming.ingest.entity import EntityIngest
        from data_platform_core.streaming.ingest.maintenance import Maintenance
        from data_platform_core.streaming.observe.metrics import READY
        from data_platform_core.streaming.observe.progress import ProgressReporter, publish_cluster

        reporter = ProgressReporter(self.settings, self.contracts, self.watch, self.watchdog.batch_ended)
        ingests: dict[str, EntityIngest] = {}
        maintenance = Maintenance(
            spark,
            self.settings,
            self.contracts.values(),
            self.writer.lease,
            self.watch.lag,
            lambda entity, uri: ingests[entity].taken(uri),
        )
        try:
            with self.stopping.interrupts():
                self.watchdog.beat("making sure that no other writer is left")
                self.writer.started(spark)
                for entity, contract in self.contracts.items():
                    self.watchdog.beat(f"checking the tables of {entity}")
                    ensure_tables(spark, self.settings, contract)
                    ingests[entity] = EntityIngest(
                        spark,
                        self.settings,
                        contract,
                        self.writer.lease,
                        reporter.batch_committed,
                        self.watchdog.beat,
                        self.settings.experiment.record_cost_us,
                    )
                spark.streams.addListener(reporter)
                for entity, ingest in ingests.items():
                    self.watchdog.beat(f"preparing {entity}")
                    reporter.resumed(self.contracts[entity].names.query, ingest.prepare())
                    reporter.state(entity, len(ingest.seen), ingest.seen.nbytes)
                    ingest.start()
            self.watch.start(lambda: publish_cluster(spark))
            maintenance.start()
            READY.set(1)
            self.watchdog.streaming()
            log.info("streaming", entities=list(self.contracts))
            self._until_stopped(spark)
        finally:
            maintenance.close()
            self.watch.close()
            reporter.close()

    def _until_stopped(self, spark: SparkSession) -> None:
        while not self.stopping.is_set():
            with spark_errors(lambda found: f"streaming query failed: {found.text}", KAFKA):
                if spark.streams.awaitAnyTermination(1):
                    raise ServiceError("a streaming query ended unexpectedly; see the log above it")
            self.watchdog.answered()
            self.writer.verify_fence()


def _stopped(spark: SparkSession) -> bool:
    """Stop everything; returns whether every query has ended, so that nothing is being written.

    With a dead JVM or a service down, stopping fails too. An earlier error is the one to report.
    """
    ended = False
    with suppress(Exception):
        for query in spark.streams.active:
            query.stop()
        ended = True
    with suppress(Exception):
        spark.stop()
    return ended


def _exit_of(jvm: psutil.Process | None) -> str:
    """The JVM's exit code as text; empty when the JVM is not a child of this process."""
    try:
        code = jvm.wait(_JVM_EXIT_S) if jvm else None
    except psutil.Error:
        return ""
    hint = ": out of memory, raise CRM_SPARK__DRIVER_MEMORY_MB" if code == OUT_OF_MEMORY_EXIT else ""
    return "" if code is None else f" with exit code {code}{hint}"
