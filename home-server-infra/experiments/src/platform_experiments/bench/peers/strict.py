"""The plain loop with what streaming does in normal operation, for events.

Two tables (the bytes as they came; decoded, checked, deduplicated), dead letters in a topic of its own, exact
deduplication by event id over the contract's window, in memory. What it still lacks: a restart forgets the window and
repeats the last batch, nothing fences a second one, nothing compacts.
`python -m platform_experiments.bench.peers.strict <environment> <entity>`.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import Any

import duckdb
import fastavro
import pyarrow as pa
from confluent_kafka import Message, Producer

from data_platform_core.contracts import IDEMPOTENCY_KEY, Contract, load_contract
from data_platform_core.kafka.client import connection
from data_platform_core.settings import load_settings
from platform_experiments.bench.peers.common import Peer
from platform_experiments.bench.peers.plain import Tables, arrow_schema, consume, decoded

_BRONZE = pa.schema(
    [
        ("kafka_key", pa.binary()),
        ("kafka_value", pa.binary()),
        ("kafka_partition", pa.int32()),
        ("kafka_offset", pa.int64()),
        ("kafka_ts", pa.timestamp("ms", tz="UTC")),
    ]
)
_ARRIVED = "kafka_ts"
_MS_PER_MINUTE = 60_000


class Judge:
    """Which decoded records are good: every check of the contract, in DuckDB's SQL, and no id seen before."""

    def __init__(self, contract: Contract) -> None:
        self._sql = duckdb.connect()
        self._conditions = " AND ".join(f"coalesce(({condition}), false)" for condition in _conditions(contract))
        self._window_ms = contract.silver.dedup_window_minutes * _MS_PER_MINUTE
        self._seen: dict[str, int] = {}  # id -> arrival, oldest first

    def passes(self, rows: pa.Table) -> list[bool]:
        """Of each row with `kafka_ts`, whether all checks hold."""
        self._sql.register("rows", rows)
        return [good for (good,) in self._sql.execute(f"SELECT {self._conditions} FROM rows").fetchall()]

    def unseen(self, ids: Sequence[str], arrivals_ms: Sequence[int]) -> list[bool]:
        """Of each id, whether it is its first arrival within the window."""
        first = []
        for key, arrived in zip(ids, arrivals_ms, strict=True):
            first.append(key not in self._seen)
            self._seen.setdefault(key, arrived)
        horizon = max(arrivals_ms, default=0) - self._window_ms
        for old in list(itertools.takewhile(lambda key: self._seen[key] < horizon, self._seen)):
            del self._seen[old]
        return first


def _conditions(contract: Contract) -> list[str]:
    """The same rules as streaming's, but for valid UTF-8, without which a record does not decode here."""
    times = [
        f"{time} >= TIMESTAMPTZ '2000-01-01 00:00:00+00' AND {time} <= {_ARRIVED} + INTERVAL 1 DAY"
        for time in (contract.event_time, "produced_ts")
    ]
    texts = [f"{column} IS NULL OR strpos({column}, chr(0)) = 0" for column in contract.max_lengths]
    lengths = [f"{column} IS NULL OR length({column}) <= {most}" for column, most in contract.max_lengths.items()]
    accepted = [
        f"{column} IS NULL OR {column} IN ({', '.join(repr(value) for value in values)})"
        for column, values in contract.accepted_values.items()
    ]
    return [*times, *texts, *lengths, *accepted, *contract.checks.values()]


def main(environment: str, entity: str) -> None:
    """Consume from the topic's end until SIGTERM."""
    settings, contract = load_settings("streaming", environment), load_contract(entity)
    schema, columns = fastavro.parse_schema(contract.avro), arrow_schema(contract.avro)
    tables, judge = Tables(settings), Judge(contract)
    producer = Producer({**connection(settings.kafka), "acks": "all", "linger.ms": 5})

    def take(messages: Sequence[Message]) -> None:
        came = [message for message in messages if not message.error()]
        tables.append(Peer.STRICT.bronze(entity), pa.Table.from_pylist([_raw(message) for message in came], _BRONZE))
        records: list[dict[str, Any] | None] = [decoded(message, schema) for message in came]
        known = [number for number, record in enumerate(records) if record is not None]
        rows = pa.Table.from_pylist([records[number] for number in known], columns)
        arrivals = [came[number].timestamp()[1] for number in known]
        judged = rows.append_column(_ARRIVED, pa.array(arrivals, pa.timestamp("ms", tz="UTC")))
        good = judge.passes(judged)
        dead = {*range(len(came))} - {number for number, holds in zip(known, good, strict=True) if holds}
        for number in sorted(dead):
            producer.produce(contract.names.dlq_topic, key=came[number].key(), value=came[number].value())
        if dead:
            producer.flush()
        kept = judged.filter(pa.array(good))
        arrived = [moment for moment, holds in zip(arrivals, good, strict=True) if holds]
        first = judge.unseen(kept[IDEMPOTENCY_KEY].to_pylist(), arrived)
        tables.append(Peer.STRICT.folder(entity), kept.filter(pa.array(first, pa.bool_())))

    consume(settings, contract.names.topic, Peer.STRICT.group, take)


def _raw(message: Message) -> dict[str, Any]:
    return {
        "kafka_key": message.key(),
        "kafka_value": message.value(),
        "kafka_partition": message.partition(),
        "kafka_offset": message.offset(),
        "kafka_ts": message.timestamp()[1],
    }


if __name__ == "__main__":
    main(*sys.argv[1:3])
