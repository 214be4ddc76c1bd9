"""One entity's ingestion: Kafka -> bronze, silver and DLQ, exactly once across a kill at any point.

A micro-batch has three steps over one cached frame:

1. decode and check every record; the driver collects the duplicates and the dead letters;
2. dead letters go to the DLQ topic (at least once: each carries its source coordinates as its identity);
3. bronze and silver are committed in parallel, each commit tagged with (query, batch id, epoch of the lease).

Spark replays a batch that did not reach the commit log, with the same offsets. A table whose log already has the tag of
that batch is skipped. So nothing is lost, and nothing is written twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from data_platform_core.contracts import Contract
from data_platform_core.kafka.client import topic_id
from data_platform_core.kafka.committed import READ_COMMITTED
from data_platform_core.kafka.registry import RegistryClient
from data_platform_core.kafka.security import spark_connection
from data_platform_core.lake.lease import WriterLease
from data_platform_core.lake.marks import batch_mark
from data_platform_core.lake.tables import last_batch
from data_platform_core.settings import Settings
from data_platform_core.streaming.ingest.checkpoint import Checkpoint
from data_platform_core.streaming.ingest.dedup import SeenIndex, joined_keys
from data_platform_core.streaming.ingest.memory import free_beside_jvm
from data_platform_core.streaming.ingest.recall import Recall
from data_platform_core.streaming.observe.report import BatchCounts, BatchReport, Seconds
from data_platform_core.streaming.observe.watchdog import unwatched
from data_platform_core.streaming.transforms.decode import Decoder, KafkaRows, slowed
from data_platform_core.streaming.transforms.layers import Layers
from data_platform_core.wire.dead_letters import Reason
from data_platform_core.wire.positions import position

# One file per batch below this, so that small batches do not fragment the table.
_ROWS_PER_FILE = 50_000
_MS_PER_MINUTE = 60_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Verdicts:
    """The driver's findings about a batch in step 1."""

    counts: BatchCounts
    duplicates: tuple[int, ...]  # positions
    new_keys: bytes
    unknown_schema: bool
    produced_s: Seconds  # of each row for silver, since 1970


class EntityIngest:
    """The ingestion of one entity; `start` returns the running query.

    `on_batch(entity, report)` is called after each commit, `beat(what)` after each part of `prepare`.
    Experiments delay each record by `record_cost_us` microseconds.
    """

    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        contract: Contract,
        lease: WriterLease,
        on_batch: Callable[[str, BatchReport], None] | None = None,
        beat: Callable[[str], None] = unwatched,
        record_cost_us: int = 0,
    ) -> None:
        self._spark = spark
        self._settings = settings
        self._contract = contract
        self._lease = lease
        self._query = contract.names.query  # the tables' logs count this query's batches
        self._on_batch = on_batch
        self._beat = beat
        self._registry = RegistryClient(settings.registry)
        self._writer_schemas = self._registry.writer_schemas(contract)
        self._kafka_rows, self._layers = KafkaRows(), Layers(contract)
        self._decode = Decoder(contract, self._writer_schemas)
        self._seen = SeenIndex(contract.silver.dedup_window_minutes * _MS_PER_MINUTE)
        self._bronze = settings.object_store.lake_uri(contract.names.bronze)
        self._silver = settings.object_store.lake_uri(contract.names.silver)
        self._taken: dict[str, int] = {}  # newest batch by table, -1 for none
        self._cost_us = record_cost_us
        self._checkpoint = Checkpoint(spark, settings.object_store.lake_uri(contract.names.checkpoint))
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix=contract.names.query)

    @property
    def seen(self) -> SeenIndex:
        """The index of keys that silver has committed."""
        return self._seen

    def taken(self, uri: str) -> int:
        """The newest batch that a table (`s3a://` address) has committed; -1 for none."""
        return self._taken[uri]

    def prepare(self) -> str | None:
        """Check the checkpoint against the tables and rebuild the index.

        Returns the end offsets of the last finished batch as Spark's JSON; None for a new query.
        """
        for table in (self._bronze, self._silver):
            self._taken[table] = last_batch(self._spark, table, self._query)
        self._checkpoint.refuse_other_history(self._taken)
        topic = self._contract.names.topic
        self._checkpoint.refuse_other_topic(topic, topic_id(self._settings.kafka, topic))
        self._recall_seen()
        return self._checkpoint.finished_offsets()

    def start(self) -> StreamingQuery:
        """Start the query, after `prepare`."""
        trigger_ms = self._settings.ingest.query_trigger_ms(self._contract.silver.trigger_ms)
        source = (
            self._spark.readStream.format("kafka")
            .options(**spark_connection(self._settings.kafka), **READ_COMMITTED)
            .option("subscribe", self._contract.names.topic)
            .option("startingOffsets", "earliest")
            .option("includeHeaders", "true")
            .option("failOnDataLoss", "true")
            .option("maxOffsetsPerTrigger", str(self._settings.ingest.max_offsets_per_trigger))
        )
        # Only where batches may grow large: the other entities' batches hold a few records every few seconds.
        if self._settings.ingest.min_partitions and self._contract.silver.trigger_ms == 0:
            source = source.option("minPartitions", str(self._settings.ingest.min_partitions))
        return (
            source.load()
            .writeStream.queryName(self._contract.names.query)
            .option("checkpointLocation", self._checkpoint.uri)
            .trigger(processingTime=f"{trigger_ms} milliseconds")
            .foreachBatch(self._ingest)
            .start()
        )

    def _recall_seen(self) -> None:
        heap_mb = self._settings.spark.driver_memory_mb
        recall = Recall(self._settings.object_store, self._contract, lambda: free_beside_jvm(self._spark, heap_mb))
        recall.fill(self._seen, self._beat)

    def _ingest(self, batch: DataFrame, batch_id: int) -> None:
        started = time.monotonic()
        replayed = batch_id <= self._taken[self._silver]
        records = self._kafka_rows(batch)
        decoded, verdicts = self._judge(records)
        try:
            if verdicts.unknown_schema and self._learn_schemas():
                _release(decoded)
                decoded, verdicts = self._judge(records)
            judged = time.monotonic()
            if verdicts.counts.dlq:
                self._send_dead_letters(decoded)
            sent = time.monotonic()
            silver_at = self._commit_tables(decoded, verdicts, batch_id)
        finally:
            _release(decoded)
        self._seen.add(verdicts.new_keys, verdicts.counts.newest_ms)
        phases = {"judge": judged - started, "dead_letters": sent - judged, "tables": time.monotonic() - sent}
        log.info(
            "batch committed",
            entity=self._contract.entity,
            batch_id=batch_id,
            **vars(verdicts.counts),
            **{f"{phase}_ms": round(seconds * 1000) for phase, seconds in phases.items()},
        )
        if self._on_batch and not replayed:  # silver has its keys: its counts were reported before the crash
            waits = silver_at - verdicts.produced_s
            report = BatchReport(verdicts.counts, waits, phases, len(self._seen), self._seen.nbytes)
            self._on_batch(self._contract.entity, report)

    def _judge(self, records: DataFrame) -> tuple[DataFrame, _Verdicts]:
        decoded = _leaf(slowed(self._decode(records), self._cost_us))
        # By partition and offset: which of two equal keys is first does not depend on Spark's scheduling.
        rows = (
            self._layers.identities(decoded)
            .toArrow()
            .sort_by([("kafka_partition", "ascending"), ("kafka_offset", "ascending")])
        )
        return decoded, _verdicts(rows, self._seen)

    def _learn_schemas(self) -> bool:
        """Fetch schemas registered since the last call; true if there are any.

        A schema incompatible with the contract is skipped: its records become dead letters, the stream continues.
        """
        known = self._registry.writer_schemas(self._contract, on_unreadable="skip")
        news = set(known) - set(self._writer_schemas)
        self._writer_schemas = known
        self._decode = Decoder(self._contract, known)
        return bool(news)

    def _send_dead_letters(self, decoded: DataFrame) -> None:
        self._lease.check()
        (
            self._layers.dead_letters(decoded)
            .write.format("kafka")
            .options(**spark_connection(self._settings.kafka))
            .option("kafka.acks", "all")
            .option("includeHeaders", "true")
            .save()
        )

    def _commit_tables(self, decoded: DataFrame, verdicts: _Verdicts, batch_id: int) -> float:
        """Append to both tables in parallel; returns the time of silver's commit, seconds since 1970."""
        files = max(1, verdicts.counts.records // _ROWS_PER_FILE)
        silver = self._layers.silver(decoded, verdicts.duplicates)
        writes = [
            self._pool.submit(self._append, silver, self._silver, batch_id, files),
            self._pool.submit(self._append, self._layers.bronze(decoded), self._bronze, batch_id, files),
        ]
        wait(writes)  # even if one fails: once the batch has ended, no write may be in progress
        silver_at, _bronze_at = (write.result() for write in writes)
        return silver_at

    def _append(self, rows: DataFrame, uri: str, batch_id: int, files: int) -> float:
        if batch_id <= self._taken[uri]:
            log.info("batch replayed, table has it", table=uri, batch_id=batch_id)
            return time.time()
        mark = batch_mark(self._query, batch_id, self._lease.epoch)
        self._lease.check()
        rows.coalesce(files).write.format("delta").mode("append").option("userMetadata", mark).save(uri)
        self._taken[uri] = batch_id
        return time.time()


def _leaf(frame: DataFrame) -> DataFrame:
    """The frame as stored rows, filled by the first action, with a plan of one leaf.

    A cached frame would carry its whole plan into each write. Spark 4.0 plans those in two threads at once, and
    `from_avro`'s options are a stateful expression: occasionally a batch fails with DUPLICATED_MAP_KEY.
    """
    return frame.localCheckpoint(eager=False)


def _release(leaf: DataFrame) -> None:
    """Free the rows now instead of at the JVM's next garbage collection."""
    leaf._jdf.queryExecution().logical().rdd().unpersist(False)


def _verdicts(rows: pa.Table, seen: SeenIndex) -> _Verdicts:
    """Duplicates among the good records of a batch. `rows` are `identities`, in partition and offset order."""
    good = rows.filter(pc.is_null(rows["reason"]))
    keys = joined_keys(good["id"])
    first = seen.first_arrivals(keys)
    late = good["is_late"].to_numpy(zero_copy_only=False).astype(bool)
    new_keys = np.frombuffer(keys, dtype="V16")[first].tobytes()
    again = good.filter(pa.array(~first))
    positions = zip(again["kafka_partition"].to_pylist(), again["kafka_offset"].to_pylist(), strict=True)
    counts = BatchCounts(
        records=len(rows),
        silver=int((first & ~late).sum()),
        late=int((first & late).sum()),
        duplicates=int((~first).sum()),
        dlq=len(rows) - len(good),
        newest_ms=int(pc.max(rows["kafka_ms"]).as_py() or 0),
    )
    return _Verdicts(
        counts=counts,
        duplicates=tuple(position(partition, offset) for partition, offset in positions),
        new_keys=new_keys,
        unknown_schema=bool(pc.any(pc.equal(rows["reason"], Reason.UNKNOWN_SCHEMA_ID.value)).as_py()),
        produced_s=good["produced_ms"].to_numpy()[first] / 1000,
    )
