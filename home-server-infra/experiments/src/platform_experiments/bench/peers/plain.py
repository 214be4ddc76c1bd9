"""The simplest loop that carries a topic into a Delta table, as a user without a platform would write it.

Poll a batch, decode it, append it, commit the offsets. It is at least once: killed between the append and the commit
it writes the batch again. No duplicates are found, no dead letters kept (what can't be decoded is dropped), no bronze,
no contract's checks, no lag but the group's. `python -m platform_experiments.bench.peers.plain <environment> <entity>`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from typing import Any

import fastavro
import pyarrow as pa
from confluent_kafka import Consumer, Message
from deltalake import write_deltalake

from data_platform_core.contracts import load_contract
from data_platform_core.kafka.client import connection
from data_platform_core.lake.store import delta_options
from data_platform_core.settings import Settings, load_settings
from data_platform_core.wire.frame import FRAME_BYTES
from platform_experiments.bench.peers.common import READY, Peer, asked_to_end

# Up to so many records, or what came in so many seconds: what a user would choose for freshness without shredding.
_RECORDS = 50_000
_SECONDS = 1.0
_TYPES = {
    "string": pa.string(),
    "long": pa.int64(),
    "int": pa.int32(),
    "timestamp-millis": pa.timestamp("us", tz="UTC"),
}


class Tables:
    """Delta tables of a peer in the lake's bucket."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = settings.object_store.lake_bucket
        self._options = delta_options(settings.object_store) | {"aws_conditional_put": "etag"}

    def append(self, folder: str, rows: pa.Table) -> None:
        if len(rows):
            write_deltalake(f"s3://{self._bucket}/{folder}", rows, mode="append", storage_options=self._options)


def main(environment: str, entity: str) -> None:
    """Consume from the topic's end until SIGTERM."""
    settings, contract = load_settings("streaming", environment), load_contract(entity)
    schema, columns = fastavro.parse_schema(contract.avro), arrow_schema(contract.avro)
    tables = Tables(settings)

    def take(messages: Sequence[Message]) -> None:
        rows = [row for message in messages if (row := decoded(message, schema)) is not None]
        tables.append(Peer.PLAIN.folder(entity), pa.Table.from_pylist(rows, columns))

    consume(settings, contract.names.topic, Peer.PLAIN.group, take)


def consume(settings: Settings, topic: str, group: str, take: Callable[[Sequence[Message]], None]) -> None:
    """Give `take` batch after batch from the topic's end on, and commit behind it, until SIGTERM."""
    consumer = Consumer(
        {
            **connection(settings.kafka),
            "group.id": group,
            "auto.offset.reset": "latest",
            "enable.auto.commit": False,
        }
    )
    asked = asked_to_end()
    consumer.subscribe([topic], on_assign=lambda *_: print(READY, flush=True))
    try:
        while not asked.is_set():
            if messages := consumer.consume(_RECORDS, timeout=_SECONDS):
                take(messages)
                consumer.commit(asynchronous=False)
    finally:
        consumer.close()


def arrow_schema(avro: dict[str, Any]) -> pa.Schema:
    """Flat records of simple and nullable fields, which events are."""
    fields = []
    for field in avro["fields"]:
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        kind = next(kind for kind in kinds if kind != "null")
        fields.append((field["name"], _TYPES[kind["logicalType"] if isinstance(kind, dict) else kind]))
    return pa.schema(fields)


def decoded(message: Message, schema: Any) -> dict[str, Any] | None:
    """The record; None for an error and for a value that is not of the schema."""
    value = message.value()
    if message.error() or value is None:
        return None
    try:
        record = fastavro.schemaless_reader(io.BytesIO(value[FRAME_BYTES:]), schema, None)
    except Exception:  # poison: the loop must go on
        return None
    return record if isinstance(record, dict) else None


if __name__ == "__main__":
    main(*sys.argv[1:3])
