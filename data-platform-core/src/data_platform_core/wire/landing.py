"""The shape of a run that goes straight to the lake: files with bronze's columns, and a manifest when all are there.

Files lie below `naming.landing_prefix(run_id)` of the lake bucket, one per entity and chunk, rows in the order of their
numbers. Where a record from Kafka has topic, partition and offset, one of these has the prefix, `partition_of` the
run's landing number, and its send number: partitions below 0, which Kafka never uses, and each run's own.
"""

from __future__ import annotations

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from data_platform_core.wire.arrow import arrow_fields
from data_platform_core.wire.columns import BRONZE_COLUMNS, BRONZE_PARTITION

#: A packed position has 19 bits for a partition, its sign among them.
HIGHEST_NUMBER = 1 << 18

#: What a record may lack; our producers fill in the rest.
_NULLABLE = ("key", "value")
#: Bronze's columns but for the partition, which the import derives. `kafka_ts` is when the file was made.
LANDED_FILE = pa.schema(
    [
        field.with_nullable(field.name in _NULLABLE)
        for field in arrow_fields(BRONZE_COLUMNS)
        if field.name != BRONZE_PARTITION
    ]
)


class Manifest(BaseModel):
    """What a finished run laid down: `rows` by entity, in files numbered 1 to `chunks` (an entity may skip some)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    number: int = Field(ge=1, le=HIGHEST_NUMBER)
    chunks: int
    rows: dict[str, int]


def partition_of(number: int) -> int:
    """The partition that stands for a landing number. -1 is left out: readers use it for `nowhere`."""
    return -number - 1
