"""Imports the files of a run that bypassed Kafka into bronze and silver, as the stream ingests Kafka's records.

It is `EntityIngest` over batches of files instead of offsets: the same decoding, checks, deduplication, dead letters
and tagged commits. The manifest alone determines each batch's files, so after a kill the same batches are replayed and
a table that has committed one skips it. The import writes the stream's tables, so it holds the stream's lease.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from data_platform_core.contracts import Contract, load_contracts
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.kafka.topics import verify_topics
from data_platform_core.lake.lease import WriterLease
from data_platform_core.lake.session import spark_session
from data_platform_core.lake.store import lake_object
from data_platform_core.lake.tables import ensure_tables, last_batch
from data_platform_core.lake.terminal import jvm_output_aside
from data_platform_core.naming import landing_manifest, landing_part, landing_prefix
from data_platform_core.settings import ObjectStoreSettings, Settings
from data_platform_core.streaming.ingest.entity import EntityIngest
from data_platform_core.streaming.ingest.writer import WriterProcess
from data_platform_core.streaming.observe.report import BatchReport
from data_platform_core.wire.landing import Manifest, partition_of
from data_platform_core.wire.ledger import ORIGIN_HEADER

if TYPE_CHECKING:
    from pyspark.sql.types import Row

#: Chunks per batch: with the usual 50,000 records each, a million, which Spark processes at its best speed.
CHUNKS_PER_BATCH = 20

log = structlog.get_logger(__name__)


def import_run(settings: Settings, run_id: str) -> dict[str, int]:
    """Import a landed run into the lake; returns its rows in bronze by entity. A second import changes nothing.

    Raises LeaseHeldError when a streaming driver or another import runs, ServiceError when the files differ from
    the manifest, ConfigurationError when the run wrote no files or is not finished.
    """
    contracts = load_contracts()
    # Checked before Spark's start of twenty seconds.
    manifest = read_manifest(settings.object_store, run_id)
    verify_topics(settings, contracts)
    writer = WriterProcess(settings, "backfill-import")
    writer.acquire()
    try:
        with jvm_output_aside(settings, "crm-lake-import"):
            spark = spark_session(settings, "crm-lake-import", short=True)
        try:
            writer.started(spark)
            done = {}
            for entity, contract in contracts.items():
                ensure_tables(spark, settings, contract)
                done[entity] = LandingImport(spark, settings, contract, manifest, writer.lease, _log_batch).run()
            return done
        finally:
            spark.stop()
    finally:
        writer.lease.release()


def _log_batch(entity: str, report: BatchReport) -> None:
    log.info("imported", entity=entity, **vars(report.counts))


def read_manifest(store: ObjectStoreSettings, run_id: str) -> Manifest:
    """The run's manifest. Raises ConfigurationError when it is missing or unreadable."""
    key = landing_manifest(run_id)
    content = lake_object(store, key)
    if content is None:
        raise ConfigurationError(
            f"run {run_id!r} has no {key} in bucket {store.lake_bucket}: it was not sent with `--sink lake`, or is not "
            "finished; finish it with `crm-generator backfill --resume`"
        )
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise ConfigurationError(f"{key}: {error.errors()[0]['msg']}; was it written by the generator?") from None


class LandingImport(EntityIngest):
    """One entity of one run."""

    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        contract: Contract,
        manifest: Manifest,
        lease: WriterLease,
        on_batch: Callable[[str, BatchReport], None] | None = None,
    ) -> None:
        super().__init__(spark, settings, contract, lease, on_batch)
        self._manifest = manifest
        self._query = f"import_{contract.entity}/{manifest.run_id}"

    def run(self) -> int:
        """Import every batch that a table lacks; returns the rows of the run in bronze."""
        sizes = self._sizes()
        wanted = self._manifest.rows.get(self._contract.entity, 0)
        if sum(sizes.values()) != wanted:
            raise ServiceError(
                f"{landing_prefix(self._manifest.run_id)}/{self._contract.entity} holds {sum(sizes.values()):,} rows, "
                f"the manifest says {wanted:,}; nothing of this entity was imported: were files removed?"
            )
        for table in (self._bronze, self._silver):
            self._taken[table] = last_batch(self._spark, table, self._query)
        self._refuse_forgotten()
        self._recall_seen()
        for batch in range(0, -(-self._manifest.chunks // CHUNKS_PER_BATCH)):
            first = batch * CHUNKS_PER_BATCH + 1
            chunks = [number for number in range(first, first + CHUNKS_PER_BATCH) if number in sizes]
            if chunks and batch > min(self._taken.values()):
                self._ingest(self._records(chunks), batch)
        return self._in_bronze()

    def _sizes(self) -> Mapping[int, int]:
        """Rows by chunk."""
        folder = f"{landing_prefix(self._manifest.run_id)}/{self._contract.entity}"
        if not self._manifest.rows.get(self._contract.entity):
            return {}
        files = self._spark.read.parquet(self._settings.object_store.lake_uri(folder))
        counted: list[Row] = files.groupBy(F.col("_metadata.file_name").alias("name")).count().collect()
        sizes = {int(row["name"].removeprefix("part-").removesuffix(".parquet")): int(row["count"]) for row in counted}
        # A file beyond the manifest's chunks is ignored; the row count check above fails.
        return sizes

    def _records(self, chunks: list[int]) -> DataFrame:
        """Files in the shape of Kafka's source."""
        run_id, entity = self._manifest.run_id, self._contract.entity
        paths = [self._settings.object_store.lake_uri(landing_part(run_id, entity, number)) for number in chunks]
        origin = F.concat_ws("/", "run_id", "producer_id", "seq").cast("binary")
        header = F.struct(F.lit(ORIGIN_HEADER).alias("key"), origin.alias("value"))
        return self._spark.read.parquet(*paths).select(
            "key",
            "value",
            "topic",
            "partition",
            "offset",
            F.col("kafka_ts").alias("timestamp"),
            F.array(header).alias("headers"),
        )

    def _mine(self) -> DataFrame:
        partition = partition_of(self._manifest.number)
        return self._spark.read.format("delta").load(self._bronze).where(F.col("partition") == partition)

    def _refuse_forgotten(self) -> None:
        """Raise if there are untagged rows: another run's under our number, or ours older than the log's retention."""
        if self._taken[self._bronze] >= 0:
            return
        found = self._mine().select("run_id").first()
        if found:
            raise ServiceError(
                f"table {self._bronze} has rows of run {found[0]!r} under landing number {self._manifest.number} and "
                "no mark of this import: it was imported before its marks expired, or the numbers were lost; nothing "
                "was imported"
            )

    def _in_bronze(self) -> int:
        return self._mine().count()
