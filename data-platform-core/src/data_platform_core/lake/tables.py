"""The Delta tables of the lake: their schemas, their creation, and what their logs say was written.

Bronze has the raw bytes and Kafka coordinates. Silver has the contract's columns and each row's Kafka coordinates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.lake.lineage import commit_of, newest_batch
from data_platform_core.lake.marks import RECENT_COMMITS
from data_platform_core.settings import Settings
from data_platform_core.wire.columns import BRONZE_COLUMNS, BRONZE_PARTITION, SILVER_COLUMNS, SILVER_PARTITION, ddl

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.types import StructType

_PROPERTIES = {
    # A checkpoint reads the whole state; every 10 commits (the default) would be every few seconds of a stream.
    "delta.checkpointInterval": "100",
    "delta.logRetentionDuration": "interval 7 days",
}
#: Statistics only where a reader filters: they are computed on every write.
_BRONZE_STATISTICS = "run_id,partition,offset,kafka_ts"
_SILVER_STATISTICS = "event_ts,run_id,kafka_partition,kafka_offset,kafka_ts"


def silver_schema(spark: SparkSession, contract: Contract) -> StructType:
    """Silver's Spark schema: `from_avro`'s types for the contract's schema, then silver's own columns."""
    from pyspark.sql import functions as F
    from pyspark.sql.avro.functions import from_avro

    empty = spark.createDataFrame([], "value BINARY")
    decoded = empty.select(from_avro(F.col("value"), contract.avro_json, {"mode": "PERMISSIVE"}).alias("r")).select(
        "r.*"
    )
    schema = decoded.schema
    for field in spark.createDataFrame([], ddl(SILVER_COLUMNS)).schema.fields:
        schema = schema.add(field)
    return schema


def ensure_tables(spark: SparkSession, settings: Settings, contract: Contract) -> None:
    """Create the entity's bronze and silver tables if they are missing.

    Raises ServiceError when the object store refuses us, or an existing table lacks a column of the contract.
    """
    bronze_schema = spark.createDataFrame([], ddl(BRONZE_COLUMNS)).schema
    wanted = (
        (contract.names.bronze, bronze_schema, BRONZE_PARTITION, _BRONZE_STATISTICS),
        (contract.names.silver, silver_schema(spark, contract), SILVER_PARTITION, _SILVER_STATISTICS),
    )
    for folder, schema, partition, statistics in wanted:
        _ensure_table(spark, settings.object_store.lake_uri(folder), schema, partition, statistics)


def _ensure_table(spark: SparkSession, uri: str, schema: StructType, partition: str, statistics: str) -> None:
    from delta.tables import DeltaTable

    if DeltaTable.isDeltaTable(spark, uri):
        found = spark.read.format("delta").load(uri).schema
        missing = [field.name for field in schema.fields if field.name not in found.names]
        changed = [f.name for f in schema.fields if f.name in found.names and found[f.name].dataType != f.dataType]
        if changed:
            raise ServiceError(
                f"table {uri}: column {changed[0]} is {found[changed[0]].dataType.simpleString()}, the contract says "
                f"{schema[changed[0]].dataType.simpleString()}; a type change needs a new topic version and table"
            )
        for name in missing:  # a new nullable field of a contract: a metadata change only
            spark.sql(f"ALTER TABLE delta.`{uri}` ADD COLUMNS ({name} {schema[name].dataType.simpleString()})")
        return
    creation = DeltaTable.createIfNotExists(spark).location(uri).addColumns(schema).partitionedBy(partition)
    for key, value in {**_PROPERTIES, "delta.dataSkippingStatsColumns": statistics}.items():
        creation = creation.property(key, value)
    creation.execute()


def last_batch(spark: SparkSession, uri: str, query: str) -> int:
    """The newest batch of `query` that the table has committed, from the tags in its log; -1 if there is none.

    A batch that a restore took back is none of them. Read once at start instead of `txnVersion` at each commit, which
    rebuilds the table's state (ADR 0003). It does not fence a second writer. It is safe because the lease allows one
    driver per table (ADR 0021), whose batch ids only grow.
    """
    from delta.tables import DeltaTable

    table = DeltaTable.forPath(spark, uri)
    for commits in (RECENT_COMMITS, None):  # the newest commits nearly always suffice; otherwise the whole log
        history = table.history(commits) if commits else table.history()
        rows = history.select("version", "timestamp", "operation", "operationParameters", "userMetadata").collect()
        newest = newest_batch((commit_of(row.asDict()) for row in rows), query)
        if newest >= 0:
            return newest
    return -1
