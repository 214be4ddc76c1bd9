"""Bronze's records decoded by fastavro, batch by batch: what silver must say, made without Spark."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.compute as pc

from data_platform_core.accounting.content.types import contract_types, plain
from data_platform_core.contracts import HISTORICAL_SOURCES, Contract
from data_platform_core.wire.arrow import arrow_fields
from data_platform_core.wire.columns import SILVER_COLUMNS
from data_platform_core.wire.frame import FRAME_BYTES, frame
from data_platform_core.wire.ledger import record_digest

#: Columns of bronze that the proof reads.
BRONZE_COLUMNS = ("key", "value", "producer_id", "seq", "partition", "offset", "kafka_ts")
#: What a digest stands for, in a report's words.
BYTES = "bytes"
_MICROSECONDS = pa.timestamp("us", tz="UTC")
#: Beside silver's columns, of each row of bronze: its send, its digest, whether topic and day are its own.
_ORIGIN = (
    pa.field("origin_producer_id", pa.int32()),
    pa.field("origin_seq", pa.int64()),
    pa.field(BYTES, pa.uint64()),
    pa.field("in_place", pa.bool_()),
)


class SilverOf:
    """Makes of bronze's rows the rows that silver must have, one contract's.

    `schemas` are the writer schemas by id (JSON), as the registry has them.
    """

    def __init__(self, contract: Contract, schemas: Mapping[int, str]) -> None:
        self._contract = contract
        self._types = contract_types(contract)
        reader = plain(contract.avro)
        writers = {number: plain(json.loads(text)) for number, text in sorted(schemas.items())}
        # A schema that is the reader's own needs no resolution, which costs as much as decoding.
        self._frames = {
            frame(number): (
                fastavro.parse_schema(writer),
                None if writer == reader else fastavro.parse_schema(reader),
            )
            for number, writer in writers.items()
        }

    @property
    def schema(self) -> pa.Schema:
        """Silver's columns, and `decodes`."""
        return pa.schema(
            [
                ("decodes", pa.bool_()),
                *self._types.items(),
                *arrow_fields(SILVER_COLUMNS),
            ]
        )

    @property
    def batch_schema(self) -> pa.Schema:
        """Of `batch`: origin, digest and `in_place`, then `schema`."""
        return pa.schema([*_ORIGIN, *self.schema])

    def batch(self, bronze: pa.RecordBatch) -> pa.RecordBatch:
        """`rows` with origin and digest. `bronze` also has `wanted`, which must decode, and `in_place`."""
        values = pc.if_else(bronze["wanted"], bronze["value"], pa.scalar(None, bronze["value"].type))
        rows = self.rows(bronze.set_column(bronze.schema.get_field_index("value"), "value", values))
        origin = (bronze["producer_id"], bronze["seq"], digests(bronze), bronze["in_place"])
        return pa.record_batch([*origin, *rows.columns], schema=self.batch_schema)

    def rows(self, bronze: pa.RecordBatch) -> pa.RecordBatch:
        """A row per row of `bronze` (BRONZE_COLUMNS), in order; contract columns null where `decodes` is false."""
        records = [self._decoded(value) for value in bronze["value"].to_pylist()]
        columns = [self._column(name, kind, records) for name, kind in self._types.items()]
        event_ts = columns[list(self._types).index(self._contract.event_time)].cast(_MICROSECONDS, safe=False)
        source = columns[list(self._types).index("source")]
        kafka_ts = bronze["kafka_ts"].cast(_MICROSECONDS)
        return pa.record_batch(
            [
                pa.array([record is not None for record in records], pa.bool_()),
                *columns,
                bronze["partition"],
                bronze["offset"],
                kafka_ts,
                self._late(kafka_ts, event_ts, source),
                pc.cast(event_ts, pa.date32(), safe=False),
            ],
            schema=self.schema,
        )

    def _decoded(self, value: bytes | None) -> Mapping[str, Any] | None:
        schemas = self._frames.get(value[:FRAME_BYTES]) if value else None
        if value is None or schemas is None:
            return None
        try:
            return fastavro.schemaless_reader(io.BytesIO(value[FRAME_BYTES:]), *schemas)
        except Exception:  # no record of ours, whatever the decoder stumbled over
            return None

    def _column(self, name: str, kind: pa.DataType, records: Sequence[Mapping[str, Any] | None]) -> pa.Array:
        values = [record[name] if record is not None else None for record in records]
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):  # numbers on the wire
            return _array(values, pa.int64() if pa.types.is_timestamp(kind) else pa.int32()).view(kind)
        return _array(values, kind)

    def _late(self, kafka_ts: pa.Array, event_ts: pa.Array, source: pa.Array) -> pa.Array:
        allowed = pa.scalar(timedelta(minutes=self._contract.silver.allowed_lateness_minutes), pa.duration("us"))
        behind = pc.greater(pc.subtract(kafka_ts, event_ts), allowed)
        past_on_purpose = pc.is_in(source, value_set=pa.array(HISTORICAL_SOURCES, pa.string()))
        return pc.and_(behind, pc.invert(past_on_purpose))


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A column; null where a value does not fit, as of an int that is longer on the wire than its type."""
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError):
        return pa.array([value if _fits(value, kind) else None for value in values], kind)


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, OverflowError):
        return False
    return True


_decoder: SilverOf | None = None


def set_decoder(expected: SilverOf) -> None:
    """What `decode_batch` uses in this process."""
    global _decoder  # noqa: PLW0603 - a pool's worker has no other place for it
    _decoder = expected


def decode_batch(bronze: pa.RecordBatch) -> pa.RecordBatch:
    """`SilverOf.batch` in a process of its own."""
    assert _decoder is not None
    return _decoder.batch(bronze)


def digests(bronze: pa.RecordBatch) -> pa.Array:
    """The ledger's digest of each row of `bronze`."""
    pairs = zip(bronze["key"].to_pylist(), bronze["value"].to_pylist(), strict=True)
    return pa.array([record_digest(key or b"", value or b"") for key, value in pairs], pa.uint64())
