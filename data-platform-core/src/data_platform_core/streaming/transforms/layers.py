"""The rows of bronze, silver and the DLQ, from the frame that `decode` made."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from data_platform_core.contracts import Contract
from data_platform_core.kafka import dlq
from data_platform_core.lake.tables import BRONZE_PARTITION, SILVER_PARTITION, silver_columns
from data_platform_core.ledger import ORIGIN_HEADER

# A shorter literal list would be inlined into generated code, and so compiled anew for every batch.
_MIN_LITERALS = 11
# A longer one costs more to plan than a join costs to run (100,000 literals: 34 s).
_MAX_LITERALS = 2_000
_OFFSET_BITS = 44


def position(partition: int, offset: int) -> int:
    """One long for a (partition, offset): 2^44 offsets, half a million partitions."""
    return (partition << _OFFSET_BITS) | offset


def _position() -> Column:
    return F.shiftleft(F.col("kafka_partition").cast("long"), _OFFSET_BITS).bitwiseOR(F.col("kafka_offset"))


def bronze_rows(decoded: DataFrame) -> DataFrame:
    """Every record as it arrived: raw bytes, origin and Kafka coordinates."""
    return decoded.select(
        F.col("kafka_key").alias("key"),
        F.col("kafka_value").alias("value"),
        F.col("origin_run_id").alias("run_id"),
        F.col("origin_producer_id").alias("producer_id"),
        F.col("origin_seq").alias("seq"),
        F.col("kafka_topic").alias("topic"),
        F.col("kafka_partition").alias("partition"),
        F.col("kafka_offset").alias("offset"),
        "kafka_ts",
        F.to_date("kafka_ts").alias(BRONZE_PARTITION),
    )


def silver_rows(decoded: DataFrame, contract: Contract, duplicates: Collection[int]) -> DataFrame:
    """The records that keep their contract and are not duplicates. `duplicates` holds `position`s."""
    good = decoded.where(F.col("reason").isNull())
    return (
        _without(good, duplicates)
        .withColumn(SILVER_PARTITION, F.to_date(contract.event_time))
        .select(*silver_columns(contract))
    )


def _without(rows: DataFrame, positions: Collection[int]) -> DataFrame:
    if len(positions) <= _MAX_LITERALS:
        return rows.where(~_position().isin([*positions, *range(-_MIN_LITERALS, 0)]))
    dropped = rows.sparkSession.createDataFrame(pa.table({"_position": pa.array(positions, pa.int64())}))
    return rows.withColumn("_position", _position()).join(F.broadcast(dropped), "_position", "left_anti")


def dlq_rows(decoded: DataFrame, dlq_topic: str) -> DataFrame:
    """The records that don't, as Kafka rows: original key and bytes, unless too large; the rest as headers."""
    source = F.concat_ws("/", "kafka_topic", "kafka_partition", "kafka_offset")
    origin = F.concat_ws("/", F.substring("origin_run_id", 1, 1_000), "origin_producer_id", "origin_seq")
    size = F.coalesce(F.length("kafka_key"), F.lit(0)) + F.coalesce(F.length("kafka_value"), F.lit(0))
    fits = size <= dlq.MAX_ORIGINAL_BYTES
    return decoded.where(F.col("reason").isNotNull()).select(
        F.when(fits, F.col("kafka_key")).alias("key"),
        F.when(fits, F.col("kafka_value")).alias("value"),
        F.lit(dlq_topic).alias("topic"),
        F.array(
            _header(dlq.REASON_HEADER, F.col("reason")),
            _header(dlq.SOURCE_HEADER, source),
            _header(dlq.TIMESTAMP_HEADER, F.unix_millis("kafka_ts").cast("string")),
            _header(dlq.TOO_LARGE_HEADER, F.when(fits, "").otherwise(size.cast("string"))),
            _header(ORIGIN_HEADER, origin),
        ).alias("headers"),
    )


def _header(name: str, value: Column) -> Column:
    return F.struct(F.lit(name).alias("key"), value.cast("binary").alias("value"))


def identities(decoded: DataFrame) -> DataFrame:
    """What the driver needs to find duplicates: one narrow row per record; the id as 16 bytes of MD5."""
    return decoded.select(
        "kafka_partition",
        "kafka_offset",
        F.unix_millis("kafka_ts").alias("kafka_ms"),
        F.unhex(F.md5(F.col("event_id").cast("binary"))).alias("id"),
        "reason",
        "is_late",
    )
