"""The peer: the simplest loop that carries a topic into a Delta table, as a user without a platform would write it.

Poll a batch, decode it, append it, commit the offsets. It is at least once: killed between the append and the commit
it writes the batch again. No duplicates are found, no dead letters kept (what can't be decoded is dropped), no bronze,
no contract's checks, no lag but the group's. `python -m platform_experiments.bench.peer_loop <environment> <entity>`.
"""

from __future__ import annotations

import io
import signal
import sys
from typing import Any

import fastavro
import pyarrow as pa
from confluent_kafka import Consumer, Message
from deltalake import write_deltalake

from data_platform_core.contracts import load_contract
from data_platform_core.kafka.client import connection
from data_platform_core.lake.store import delta_options
from data_platform_core.settings import load_settings
from data_platform_core.wire.frame import FRAME_BYTES

READY = "ready"
GROUP = "peer"
# Up to so many records, or what came in so many seconds: what a user would choose for freshness without shredding.
_RECORDS = 50_000
_SECONDS = 1.0
_TYPES = {
    "string": pa.string(),
    "long": pa.int64(),
    "int": pa.int32(),
    "timestamp-millis": pa.timestamp("us", tz="UTC"),
}


def peer_folder(entity: str) -> str:
    """The peer's table in the lake's bucket, where nobody accounts."""
    return f"peer/{entity}"


def main(environment: str, entity: str) -> None:
    """Consume from the topic's end until SIGTERM."""
    settings = load_settings("streaming", environment)
    contract = load_contract(entity)
    schema = fastavro.parse_schema(contract.avro)
    columns = _arrow_schema(contract.avro)
    options = delta_options(settings.object_store) | {"aws_conditional_put": "etag"}
    uri = f"s3://{settings.object_store.lake_bucket}/{peer_folder(entity)}"
    consumer = Consumer(
        {
            **connection(settings.kafka),
            "group.id": GROUP,
            "auto.offset.reset": "latest",
            "enable.auto.commit": False,
        }
    )
    running = True

    def stop(_signal: int, _frame: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    consumer.subscribe([contract.names.topic], on_assign=lambda *_: print(READY, flush=True))
    try:
        while running:
            messages = consumer.consume(_RECORDS, timeout=_SECONDS)
            rows = [row for message in messages if (row := _decoded(message, schema)) is not None]
            if rows:
                write_deltalake(uri, pa.Table.from_pylist(rows, columns), mode="append", storage_options=options)
            if messages:
                consumer.commit(asynchronous=False)
    finally:
        consumer.close()


def _arrow_schema(avro: dict[str, Any]) -> pa.Schema:
    """Flat records of simple and nullable fields, which events are."""
    fields = []
    for field in avro["fields"]:
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        kind = next(kind for kind in kinds if kind != "null")
        fields.append((field["name"], _TYPES[kind["logicalType"] if isinstance(kind, dict) else kind]))
    return pa.schema(fields)


def _decoded(message: Message, schema: Any) -> dict[str, Any] | None:
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
