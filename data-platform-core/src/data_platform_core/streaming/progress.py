"""What Spark says of each batch, made visible: Prometheus metrics, and the offsets committed to a consumer group.

Spark commits no offsets to Kafka. After each batch this listener commits the batch's end offsets to the group
`ingest_<entity>`, so that `kafka-consumer-groups` and any lag exporter show the stream's lag like any consumer's.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition
from prometheus_client import Counter, Gauge, start_http_server
from pyspark.sql.streaming.listener import StreamingQueryListener

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.kafka.client import connection
from data_platform_core.settings import Settings
from data_platform_core.streaming.jobs.ingest import BatchCounts

_COMMIT_TIMEOUT_MS = 10_000

log = structlog.get_logger(__name__)

_LAG = Gauge("crm_streaming_lag_records", "Records in the topic that no batch has committed", ["entity", "partition"])
_LAG_SECONDS = Gauge("crm_streaming_lag_seconds", "Age of the newest committed record while records wait", ["entity"])
_BATCH_SECONDS = Gauge("crm_streaming_batch_seconds", "Duration of the last batch", ["entity"])
_INPUT_RATE = Gauge("crm_streaming_input_records_per_second", "Rate into the last batch", ["entity"])
_PROCESSED_RATE = Gauge("crm_streaming_processed_records_per_second", "Rate through the last batch", ["entity"])
_RECORDS = Counter("crm_streaming_records_total", "Committed records by what became of them", ["entity", "kind"])


def refuse_second_driver(settings: Settings) -> None:
    """Raises ServiceError when the metrics address is taken: another driver would write the same tables."""
    metrics = settings.metrics
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((metrics.streaming_host, metrics.streaming_port))
        except OSError as error:
            raise ServiceError(
                f"metrics address {metrics.streaming_host}:{metrics.streaming_port} can't be had ({error.strerror}); "
                "does a streaming driver run already? `make status` tells; one driver writes each table"
            ) from None


def serve_metrics(settings: Settings) -> None:
    """Serve Prometheus metrics on the address of the topology; port 0 turns them off."""
    if settings.metrics.streaming_port:
        start_http_server(settings.metrics.streaming_port, settings.metrics.streaming_host)


class ProgressReporter(StreamingQueryListener):
    """Listens to every query of the session; `batch_committed` is fed by the ingest jobs."""

    def __init__(self, settings: Settings, contracts: dict[str, Contract]) -> None:
        self._entities = {contract.names.query: contract.entity for contract in contracts.values()}
        self._newest_ms: dict[str, int] = {}
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

    def batch_committed(self, entity: str, counts: BatchCounts) -> None:
        self._newest_ms[entity] = counts.newest_ms
        for kind in ("silver", "late", "duplicates", "dlq"):
            _RECORDS.labels(entity, kind).inc(getattr(counts, kind))

    def onQueryStarted(self, event: Any) -> None:
        log.info("query started", query=event.name)

    def onQueryProgress(self, event: Any) -> None:
        progress = event.progress
        entity = self._entities.get(progress.name)
        if entity is None or not progress.sources:
            return
        source = progress.sources[0]
        ends, latest = _offsets(source.endOffset), _offsets(source.latestOffset)
        self._publish(entity, ends, latest, progress)
        if ends:
            self._commit(progress.name, ends)

    def onQueryTerminated(self, event: Any) -> None:
        log.info("query ended", run_id=str(event.runId), failed=bool(event.exception))

    def _publish(
        self, entity: str, ends: dict[tuple[str, int], int], latest: dict[tuple[str, int], int], progress: Any
    ) -> None:
        waiting = 0
        for key, newest in latest.items():
            lag = max(0, newest - ends.get(key, 0))
            waiting += lag
            _LAG.labels(entity, str(key[1])).set(lag)
        age = time.time() - self._newest_ms.get(entity, 0) / 1000 if waiting and entity in self._newest_ms else 0.0
        _LAG_SECONDS.labels(entity).set(max(0.0, age))
        _BATCH_SECONDS.labels(entity).set(progress.batchDuration / 1000)
        _INPUT_RATE.labels(entity).set(progress.inputRowsPerSecond or 0)
        _PROCESSED_RATE.labels(entity).set(progress.processedRowsPerSecond or 0)

    def _commit(self, query: str, ends: dict[tuple[str, int], int]) -> None:
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in ends.items()]
        try:
            self._committers[query].commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:  # only visibility suffers: the truth is in the checkpoint
            log.warning("lag not committed to the consumer group", group=query, error=str(error))


def _offsets(text: str | None) -> dict[tuple[str, int], int]:
    """Spark's JSON `{topic: {partition: offset}}` by (topic, partition)."""
    if not text or not text.startswith("{"):  # a replayed batch has no latest offset
        return {}
    return {
        (topic, int(partition)): int(offset)
        for topic, partitions in json.loads(text).items()
        for partition, offset in partitions.items()
    }
