"""The format of a lake backfill: files with bronze's columns, and a manifest after the last file.

Files are below `naming.landing_prefix(run_id)` of the lake bucket, one per entity and chunk, with rows in the order of
their numbers. Instead of topic, partition and offset, a record has the prefix, `partition_of` the run's landing number,
and its send number. These partitions are below 0, which Kafka never uses, and unique to the run.
"""

from __future__ import annotations

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from data_platform_core.wire.arrow import arrow_fields
from data_platform_core.wire.columns import BRONZE_COLUMNS, BRONZE_PARTITION

#: A packed position has 19 bits for a partition, including its sign.
HIGHEST_NUMBER = 1 << 18

#: Optional columns; our producers fill in the rest.
_NULLABLE = ("key", "value")
#: Bronze's columns without the partition, which the import derives. `kafka_ts` is the file's creation time.
LANDED_FILE = pa.schema(
    [
        field.with_nullable(field.name in _NULLABLE)
        for field in arrow_fields(BRONZE_COLUMNS)
        if field.name != BRONZE_PARTITION
    ]
)


class Manifest(BaseModel):
    """Content of a finished run: `rows` by entity, in files numbered 1 to `chunks` (an entity may skip some)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    number: int = Field(ge=1, le=HIGHEST_NUMBER)
    chunks: int
    rows: dict[str, int]


def partition_of(number: int) -> int:
    """The partition for a landing number. -1 is not used: readers use it for `nowhere`."""
    return -number - 1
