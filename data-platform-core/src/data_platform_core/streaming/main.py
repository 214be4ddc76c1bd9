"""The streaming driver: wait for its services, start one query per entity, run until told to stop.

It runs under a supervisor (supervisord locally, the Spark operator on Kubernetes): when a query fails it ends with a
non-zero exit code, and the supervisor starts it again from the checkpoint. An outage ends the queries; the next driver
waits for the service before it starts Spark (`waiting.py`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

import structlog

from data_platform_core.contracts import load_contract, load_contracts
from data_platform_core.errors import ServiceError
from data_platform_core.lake.session import spark_session
from data_platform_core.lake.spark_errors import cause
from data_platform_core.lake.tables import ensure_tables
from data_platform_core.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = structlog.get_logger(__name__)


def run(settings: Settings, entities: Sequence[str] = ()) -> None:
    """Ingest `entities` (default: all) until SIGTERM or SIGINT.

    Raises ServiceError when a topic, a subject, the object store or a checkpoint is not as it must be, or when a query
    fails while running. A service that does not answer at the start is waited for.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    from data_platform_core.streaming.jobs.ingest import EntityIngest
    from data_platform_core.streaming.lag import LagWatch
    from data_platform_core.streaming.maintenance import Maintenance
    from data_platform_core.streaming.metrics import READY, refuse_second_driver, serve_metrics
    from data_platform_core.streaming.progress import ProgressReporter, publish_cluster
    from data_platform_core.streaming.waiting import checks, wait_for_services

    contracts = {entity: load_contract(entity) for entity in entities} if entities else load_contracts()
    stopping = _stop_on_signals()
    refuse_second_driver(settings)
    serve_metrics(settings)
    if not wait_for_services(checks(settings, contracts), stopping):
        return
    spark = spark_session(settings, "crm-streaming")
    watch = LagWatch(settings, contracts.values())
    reporter = ProgressReporter(settings, contracts, watch)
    ingests: dict[str, EntityIngest] = {}
    maintenance = Maintenance(
        spark, settings, contracts.values(), watch.lag, lambda entity, uri: ingests[entity].taken(uri)
    )
    try:
        for contract in contracts.values():
            ensure_tables(spark, settings, contract)
        spark.streams.addListener(reporter)
        for entity, contract in contracts.items():
            ingests[entity] = EntityIngest(spark, settings, contract, reporter.batch_committed)
        for entity, ingest in ingests.items():
            reporter.resumed(contracts[entity].names.query, ingest.prepare())
            reporter.state(entity, len(ingest.seen), ingest.seen.nbytes)
            ingest.start()
        watch.start(lambda: publish_cluster(spark))
        maintenance.start()
        READY.set(1)
        log.info("streaming", entities=list(contracts))
        _until_stopped(spark, stopping)
    except (Py4JJavaError, PySparkException) as error:
        raise ServiceError(f"streaming can't start: {cause(error).text}; see the log above") from None
    finally:
        maintenance.close()
        watch.close()
        # With a JVM that died or a service away, stopping fails too: the first error is the one to report.
        with suppress(Exception):
            for query in spark.streams.active:
                query.stop()
        with suppress(Exception):
            spark.stop()
        reporter.close()


def _stop_on_signals() -> threading.Event:
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping


def _until_stopped(spark: SparkSession, stopping: threading.Event) -> None:
    from pyspark.errors import StreamingQueryException

    while not stopping.is_set():
        try:
            if spark.streams.awaitAnyTermination(1):
                raise ServiceError("a streaming query ended by itself; see the log above it")
        except StreamingQueryException as error:
            raise ServiceError(f"streaming query failed: {cause(error).text}") from None
