"""Decodes Kafka's bytes to contract columns and a verdict.

A `Decoder` returns Kafka's columns as `kafka_*`, the parsed origin header, the contract's columns (all null when
undecodable), `reason` (null: the record satisfies its contract; otherwise why it goes to the DLQ) and `is_late`.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro

from data_platform_core.contracts import HISTORICAL_SOURCES, IDEMPOTENCY_KEY, Contract
from data_platform_core.streaming.transforms.projection import Projection
from data_platform_core.streaming.transforms.rules import contract_checks
from data_platform_core.wire.dead_letters import Reason, contract_reason
from data_platform_core.wire.frame import FRAME_BYTES, ID_BYTES, MAGIC
from data_platform_core.wire.ledger import MAX_RUN_ID, ORIGIN_HEADER

_DECODED = "decoded"

KAFKA_COLUMNS = ("kafka_key", "kafka_value", "kafka_topic", "kafka_partition", "kafka_offset", "kafka_ts")
ORIGIN_COLUMNS = ("origin_run_id", "origin_producer_id", "origin_seq")


class KafkaRows:
    """Renames Kafka's columns and parses the origin header, null when it is not one (`ledger.parse_origin`).

    Input: the Kafka source with `includeHeaders`.
    """

    def __init__(self) -> None:
        header = F.filter("headers", lambda h: h["key"] == ORIGIN_HEADER)
        # A cast keeps bytes that are not UTF-8; `decode` would fail the batch and `split` would replace them.
        text = F.get(header, F.lit(0))["value"].cast("string")
        origin = F.split(F.when(F.is_valid_utf8(text), text), "/")
        self._renamed = Projection(
            F.col("key").alias("kafka_key"),
            F.col("value").alias("kafka_value"),
            F.col("topic").alias("kafka_topic"),
            F.col("partition").alias("kafka_partition"),
            F.col("offset").alias("kafka_offset"),
            F.col("timestamp").alias("kafka_ts"),
            origin.alias("_origin"),
        )
        self._parsed = Projection(
            *KAFKA_COLUMNS,
            F.get("_origin", F.lit(0)).alias("origin_run_id"),
            F.expr("try_cast(get(_origin, 1) AS INT)").alias("origin_producer_id"),
            F.expr("try_cast(get(_origin, 2) AS BIGINT)").alias("origin_seq"),
            F.size("_origin").alias("_parts"),
        )
        # All or nothing: a partly valid origin identifies no send.
        ours = F.expr(
            f"_parts = 3 AND length(origin_run_id) BETWEEN 1 AND {MAX_RUN_ID} AND locate(char(0), origin_run_id) = 0 "
            "AND origin_producer_id >= 0 AND origin_seq >= 0"
        )
        self._checked = Projection(*KAFKA_COLUMNS, *(F.when(ours, F.col(name)).alias(name) for name in ORIGIN_COLUMNS))

    def __call__(self, batch: DataFrame) -> DataFrame:
        """The rows of a batch."""
        return self._checked(self._parsed(self._renamed(batch)))


class Decoder:
    """Decodes and checks each record of `KafkaRows`.

    `writer_schemas` has the registry's schemas of the subject by id. Each is resolved to the contract's schema, so
    records of a producer one version behind or ahead are decoded.
    """

    def __init__(self, contract: Contract, writer_schemas: Mapping[int, str]) -> None:
        arrived = (*KAFKA_COLUMNS, *ORIGIN_COLUMNS)
        self._decoded = Projection(*arrived, _from_wire(contract, writer_schemas).alias(_DECODED))
        self._flat = Projection(*arrived, f"{_DECODED}.*")
        self._judged = Projection(
            "*", _reason(contract, writer_schemas).alias("reason"), _is_late(contract).alias("is_late")
        )

    def __call__(self, records: DataFrame) -> DataFrame:
        """The records with the contract's columns, `reason` and `is_late`."""
        return self._judged(self._flat(self._decoded(records)))


def _schema_id() -> Column:
    return F.conv(F.hex(F.substring("kafka_value", len(MAGIC) + 1, ID_BYTES)), 16, 10).cast("long")


def _framed() -> Column:
    return F.coalesce(
        (F.length("kafka_value") > FRAME_BYTES) & (F.substring("kafka_value", 1, len(MAGIC)) == MAGIC), F.lit(False)
    )


def _from_wire(contract: Contract, writer_schemas: Mapping[int, str]) -> Column:
    body = F.expr(f"substring(kafka_value, {FRAME_BYTES + 1}, length(kafka_value) - {FRAME_BYTES})")
    options = {"mode": "PERMISSIVE", "avroSchema": contract.avro_json}
    result: Column | None = None
    for schema_id, writer in sorted(writer_schemas.items()):
        matches = _framed() & (_schema_id() == schema_id)
        value = from_avro(body, writer, options)
        result = F.when(matches, value) if result is None else result.when(matches, value)
    if result is None:
        raise ValueError(f"no writer schema for {contract.entity}")
    return result


def _reason(contract: Contract, writer_schemas: Mapping[int, str]) -> Column:
    reason = (
        F.when(~_framed(), Reason.NOT_AVRO_FRAMED.value)
        .when(~_schema_id().isin(*writer_schemas), Reason.UNKNOWN_SCHEMA_ID.value)
        # The idempotency key can't be null in the schema: it is null only when the body didn't decode.
        .when(F.col(IDEMPOTENCY_KEY).isNull(), Reason.UNDECODABLE.value)
    )
    for name, condition in contract_checks(contract).items():
        holds = F.coalesce(F.expr(condition), F.lit(False))
        reason = reason.when(~holds, contract_reason(name))
    return reason


def _is_late(contract: Contract) -> Column:
    minutes = contract.silver.allowed_lateness_minutes
    too_old = F.col("kafka_ts") - F.expr(f"INTERVAL {minutes} MINUTES") > F.col(contract.event_time)
    return F.coalesce(too_old & ~F.col("source").isin(*HISTORICAL_SOURCES), F.lit(False))


def slowed(records: DataFrame, microseconds: int) -> DataFrame:
    """Delay each record by `microseconds` in its task without using CPU, like a slow lookup.

    For experiments: capacity becomes (tasks at a time) / wait, on any machine. 0 returns the frame unchanged.
    """
    if not microseconds:
        return records
    wait = f"java_method('java.util.concurrent.locks.LockSupport', 'parkNanos', {microseconds * 1000}L)"
    return records.withColumn("_waited", F.expr(wait))
