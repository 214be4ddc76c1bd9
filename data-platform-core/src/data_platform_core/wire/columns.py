"""Bronze's and silver's own columns; each system derives its types and comments from them.

Bronze has records as they arrived, with the same columns for every entity. Silver has the contract's columns, then the
row's Kafka coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from data_platform_core.contracts import Contract


class ColumnType(StrEnum):
    """A column's type in Spark's DDL."""

    BINARY = "BINARY"
    STRING = "STRING"
    INT = "INT"
    LONG = "BIGINT"
    BOOLEAN = "BOOLEAN"
    TIMESTAMP = "TIMESTAMP"
    DATE = "DATE"


@dataclass(frozen=True)
class LakeColumn:
    """A column of a Delta table. `doc` documents the tables for their readers."""

    name: str
    type: ColumnType
    doc: str


BRONZE_PARTITION: Final = "ingest_date"
SILVER_PARTITION: Final = "event_date"

#: Doc of columns from the origin header: null for a foreign producer.
BRONZE_COLUMNS: Final = (
    LakeColumn("key", ColumnType.BINARY, "The record's key, byte for byte."),
    LakeColumn("value", ColumnType.BINARY, "The record's value, byte for byte."),
    LakeColumn("run_id", ColumnType.STRING, "From the origin header: the run."),
    LakeColumn("producer_id", ColumnType.INT, "From the origin header: the producer of the run."),
    LakeColumn("seq", ColumnType.LONG, "From the origin header: the send of the producer and entity."),
    LakeColumn("topic", ColumnType.STRING, "Topic, or the folder of a run that went straight to the lake."),
    LakeColumn("partition", ColumnType.INT, "Partition of the topic; below 0 for a landed file (`wire.landing`)."),
    LakeColumn("offset", ColumnType.LONG, "Offset in that partition."),
    LakeColumn("kafka_ts", ColumnType.TIMESTAMP, "Kafka's time of the record, UTC."),
    LakeColumn(BRONZE_PARTITION, ColumnType.DATE, "UTC day of kafka_ts; the table's partition."),
)
#: What silver adds to the contract's columns; none is ever null. The docs are the warehouse's comments.
SILVER_COLUMNS: Final = (
    LakeColumn("kafka_partition", ColumnType.INT, "Partition of the topic the record was read from."),
    LakeColumn("kafka_offset", ColumnType.LONG, "Offset in that partition."),
    LakeColumn("kafka_ts", ColumnType.TIMESTAMP, "When Kafka took the record, UTC."),
    LakeColumn("is_late", ColumnType.BOOLEAN, "Arrived later after its event time than the contract allows."),
    LakeColumn(SILVER_PARTITION, ColumnType.DATE, "UTC day of event_ts."),
)


def ddl(columns: Iterable[LakeColumn]) -> str:
    """Spark's DDL of the columns; all may be null, so that a reader never trusts more than the files hold."""
    return ", ".join(f"{column.name} {column.type}" for column in columns)


def silver_columns(contract: Contract) -> tuple[str, ...]:
    """Column names of silver, in order."""
    return (*contract.columns, *(column.name for column in SILVER_COLUMNS))
