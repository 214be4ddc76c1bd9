"""Publishes the progress of each batch: metrics, and offsets committed to a consumer group.

Spark commits no offsets to Kafka. After each batch this listener commits the batch's end offsets to the group
`ingest_<entity>`, so that `kafka-consumer-groups` and any lag exporter show the stream's lag like any consumer's.

Spark's progress is read as JSON, in one call. PySpark's own event objects make some fifty calls into the JVM for each
batch, and one of them searches every jar for classes that do not exist.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition
from pyspark import SparkContext
from pyspark.sql import SparkSession
from pyspark.sql.streaming.listener import JStreamingQueryListener, StreamingQueryListener

from data_platform_core.contracts import Contract
from data_platform_core.kafka.client import connection
from data_platform_core.kafka.offsets import Partition
from data_platform_core.settings import Settings
from data_platform_core.streaming.observe import metrics
from data_platform_core.streaming.observe.lag import LagWatch
from data_platform_core.streaming.observe.report import BatchReport

_COMMIT_TIMEOUT_MS = 10_000
# Spark's names of the phases around our job in a batch, and ours.
_PHASES = {
    "latestOffset": "ask_offsets",
    "walCommit": "plan_log",
    "queryPlanning": "planning",
    "addBatch": "batch",
    "commitOffsets": "commit_log",
}

log = structlog.get_logger(__name__)


class ProgressReporter(StreamingQueryListener):
    """Listener of every query of the session; the ingest jobs call `resumed` and `batch_committed`.

    `on_batch_end(entity)` is called at the end of each batch.
    """

    def __init__(
        self,
        settings: Settings,
        contracts: dict[str, Contract],
        watch: LagWatch,
        on_batch_end: Callable[[str], None],
    ) -> None:
        self._entities = {contract.names.query: contract.entity for contract in contracts.values()}
        self._watch, self._on_batch_end = watch, on_batch_end
        self._committers = {
            query: Consumer(
                {
                    **connection(settings.kafka),
                    "group.id": query,
                    "enable.auto.commit": False,
                    "socket.timeout.ms": _COMMIT_TIMEOUT_MS,
                }
            )
            for query in self._entities
        }

    def close(self) -> None:
        """Close the connections to Kafka."""
        for committer in self._committers.values():
            committer.close()

    def resumed(self, query: str, offsets: str | None) -> None:
        """Commit the end of the last finished batch (Spark's JSON), which the group may lack after a crash."""
        self._commit(query, places(offsets))

    def batch_committed(self, entity: str, report: BatchReport) -> None:
        for kind in ("silver", "late", "duplicates", "dlq"):
            metrics.RECORDS.labels(entity, kind).inc(getattr(report.counts, kind))
        metrics.LATENCY.observe(entity, report.waits)
        for phase, seconds in report.phases.items():
            metrics.PHASE_SECONDS.labels(entity, phase).observe(seconds)
        self.state(entity, report.state_keys, report.state_bytes)

    def state(self, entity: str, keys: int, size: int) -> None:
        """Publish the size of the index of seen keys."""
        metrics.STATE_KEYS.labels(entity).set(keys)
        metrics.STATE_BYTES.labels(entity).set(size)

    def onQueryStarted(self, event: Any) -> None:
        log.info("query started", query=event.name)

    def onQueryProgress(self, event: Any) -> None:
        """Never called: `_jlistener` passes progress on as JSON."""
        raise NotImplementedError

    def progressed(self, progress: Mapping[str, Any]) -> None:
        """A batch has ended, or a query had nothing to do; Spark's `StreamingQueryProgress` as JSON has it."""
        entity = self._entities.get(progress["name"])
        if entity is None or not progress["sources"]:
            return
        self._on_batch_end(entity)
        self._publish(entity, progress)
        self._commit(progress["name"], places(progress["sources"][0]["endOffset"]))

    def onQueryTerminated(self, event: Any) -> None:
        log.info("query ended", run_id=str(event.runId), failed=bool(event.exception))

    @cached_property
    def _jlistener(self) -> Any:
        # What PySpark adds to the queries; its own makes the objects.
        return SparkContext._jvm.PythonStreamingQueryListenerWrapper(_JsonProgress(self))

    def _publish(self, entity: str, progress: Mapping[str, Any]) -> None:
        durations = progress["durationMs"]
        metrics.BATCH_SECONDS.labels(entity).set(progress["batchDuration"] / 1000)
        # Spark leaves out a rate that is no number.
        metrics.INPUT_RATE.labels(entity).set(progress.get("inputRowsPerSecond", 0))
        metrics.PROCESSED_RATE.labels(entity).set(progress.get("processedRowsPerSecond", 0))
        if "addBatch" in durations:  # otherwise Spark polled and found no records
            for name, phase in _PHASES.items():
                metrics.PHASE_SECONDS.labels(entity, phase).observe(durations.get(name, 0) / 1000)

    def _commit(self, query: str, ends: Mapping[Partition, int]) -> None:
        if not ends:
            return
        self._watch.committed(ends)
        metrics.PARTITIONS.labels(self._entities[query]).set(len(ends))
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in ends.items()]
        try:
            self._committers[query].commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:  # only visibility suffers: the checkpoint is authoritative
            log.warning("lag not committed to the consumer group", group=query, error=str(error))


class _JsonProgress(JStreamingQueryListener):
    """What the JVM calls. A query without data is no event worth a call back into the JVM."""

    pylistener: ProgressReporter

    def onQueryProgress(self, jevent: Any) -> None:
        self.pylistener.progressed(json.loads(jevent.progress().json()))

    def onQueryIdle(self, jevent: Any) -> None:
        """Reported by nothing: the lag says whether a query is idle."""


def places(offsets: Mapping[str, Mapping[str, int]] | str | None) -> dict[Partition, int]:
    """Spark's offsets `{topic: {partition: offset}}`, or their JSON, by (topic, partition)."""
    if isinstance(offsets, str):  # a replayed batch has no latest offset
        offsets = json.loads(offsets) if offsets.startswith("{") else None
    return {
        (topic, int(partition)): int(offset)
        for topic, partitions in (offsets or {}).items()
        for partition, offset in partitions.items()
    }


def publish_cluster(spark: SparkSession) -> None:
    """Publish the number of executors and of their task slots. In local mode the driver is the only executor."""
    executors = spark._jsc.sc().statusStore().executorList(True)
    cores = [executors.apply(index).totalCores() for index in range(executors.size())]
    metrics.EXECUTORS.set(sum(1 for count in cores if count))
    metrics.TASK_SLOTS.set(sum(cores))
