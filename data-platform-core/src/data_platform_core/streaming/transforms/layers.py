"""The rows of bronze, silver and the DLQ, from a `Decoder`'s frame."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from data_platform_core.contracts import Contract
from data_platform_core.streaming.transforms.decode import KAFKA_COLUMNS, ORIGIN_COLUMNS
from data_platform_core.streaming.transforms.projection import Projection
from data_platform_core.wire import dead_letters
from data_platform_core.wire.columns import BRONZE_COLUMNS, BRONZE_PARTITION, SILVER_PARTITION, silver_columns
from data_platform_core.wire.keys import KEY_SQL
from data_platform_core.wire.ledger import ORIGIN_HEADER
from data_platform_core.wire.positions import OFFSET_BITS

# A shorter literal list would be inlined into generated code, and so recompiled for every batch.
_MIN_LITERALS = 11
# A longer one costs more to plan than a join costs to run (100,000 literals: 34 s).
_MAX_LITERALS = 2_000
# `positions.position` as SQL.
_POSITION = f"(shiftleft(CAST(kafka_partition AS BIGINT), {OFFSET_BITS}) | kafka_offset)"


class Layers:
    """One entity's frames for the tables, the DLQ and the driver, from its `Decoder`'s; columns are built once."""

    def __init__(self, contract: Contract) -> None:
        self._bronze = Projection(*_bronze_columns())
        *columns, _day = silver_columns(contract)
        self._silver = Projection(*columns, F.to_date(contract.event_time).alias(SILVER_PARTITION))
        self._identities = Projection(
            "kafka_partition",
            "kafka_offset",
            F.unix_millis("kafka_ts").alias("kafka_ms"),
            F.expr(KEY_SQL).alias("id"),
            "reason",
            "is_late",
            F.unix_millis("produced_ts").alias("produced_ms"),
        )
        self._dead_letters = Projection(*_dead_letter_columns(contract.names.dlq_topic))
        self._dead = F.col("reason").isNotNull()

    def bronze(self, decoded: DataFrame) -> DataFrame:
        """Every record as it arrived: raw bytes, origin and Kafka coordinates."""
        return self._bronze(decoded)

    def silver(self, decoded: DataFrame, duplicates: Collection[int]) -> DataFrame:
        """The records that satisfy their contract and are not duplicates. `duplicates` holds `position`s."""
        if len(duplicates) <= _MAX_LITERALS:
            padded = ",".join(f"{value}L" for value in (*duplicates, *range(-_MIN_LITERALS, 0)))
            # One SQL string: a column per literal would cost several calls into the JVM each.
            return self._silver(decoded.where(f"reason IS NULL AND {_POSITION} NOT IN ({padded})"))
        good = decoded.where("reason IS NULL").withColumn("_position", F.expr(_POSITION))
        dropped = good.sparkSession.createDataFrame(pa.table({"_position": pa.array(duplicates, pa.int64())}))
        return self._silver(good.join(F.broadcast(dropped), "_position", "left_anti"))

    def dead_letters(self, decoded: DataFrame) -> DataFrame:
        """The dead letters as Kafka rows: original key and bytes, unless too large; the rest as headers."""
        return self._dead_letters(decoded.where(self._dead))

    def identities(self, decoded: DataFrame) -> DataFrame:
        """One narrow row per record for the driver; `id` is its key (`wire.keys`)."""
        return self._identities(decoded)


def _bronze_columns() -> Iterator[Column]:
    """Bronze's columns, each from the decoder's prefixed column of that name."""
    arrived = (*KAFKA_COLUMNS, *ORIGIN_COLUMNS)
    for name in (column.name for column in BRONZE_COLUMNS):
        if name == BRONZE_PARTITION:
            yield F.to_date("kafka_ts").alias(name)
        else:
            (source,) = {name, f"kafka_{name}", f"origin_{name}"}.intersection(arrived)
            yield F.col(source).alias(name)


def _dead_letter_columns(dlq_topic: str) -> Iterable[Column]:
    source = F.concat_ws("/", "kafka_topic", "kafka_partition", "kafka_offset")
    origin = F.concat_ws("/", *ORIGIN_COLUMNS)
    size = F.coalesce(F.length("kafka_key"), F.lit(0)) + F.coalesce(F.length("kafka_value"), F.lit(0))
    fits = size <= dead_letters.MAX_ORIGINAL_BYTES
    return (
        F.when(fits, F.col("kafka_key")).alias("key"),
        F.when(fits, F.col("kafka_value")).alias("value"),
        F.lit(dlq_topic).alias("topic"),
        F.array(
            _header(dead_letters.REASON_HEADER, F.col("reason")),
            _header(dead_letters.SOURCE_HEADER, source),
            _header(dead_letters.TIMESTAMP_HEADER, F.unix_millis("kafka_ts").cast("string")),
            _header(dead_letters.TOO_LARGE_HEADER, F.when(fits, "").otherwise(size.cast("string"))),
            _header(ORIGIN_HEADER, origin),
        ).alias("headers"),
    )


def _header(name: str, value: Column) -> Column:
    return F.struct(F.lit(name).alias("key"), value.cast("binary").alias("value"))
