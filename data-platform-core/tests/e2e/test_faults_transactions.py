"""A producer with transactions: commits are in bronze once, aborted records nowhere, and reconciliation agrees."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest
from confluent_kafka import Producer
from pipeline import Pipeline

from data_platform_core.kafka.client import connection
from data_platform_core.lake.delta import delta_table, table_rows
from data_platform_core.naming import names

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

RUN, ENTITY = "faults-transactions", "orders"


def send(producer: Producer, label: str, count: int) -> None:
    """Send records of no run, keyed `<label>-<number>`. Their values can't be decoded: they become dead letters."""
    for number in range(count):
        producer.produce(names(ENTITY).topic, b"of a transaction", f"{label}-{number}".encode())
    assert producer.flush(60) == 0


def foreign_keys(pipeline: Pipeline) -> list[bytes]:
    """Keys in bronze of the records that `send` sent."""
    store = pipeline.settings("accounting").object_store
    rows = table_rows(store, delta_table(store, names(ENTITY).bronze)).to_table(columns=["key", "value"])
    found: list[bytes] = rows.filter(pc.equal(rows["value"], b"of a transaction"))["key"].to_pylist()
    return sorted(found)


def test_what_a_transaction_commits_is_ingested_once_and_what_it_aborts_nowhere(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    pipeline.generate(RUN, seconds=10, rate=40)
    producer = Producer({**connection(pipeline.settings("generator").kafka), "transactional.id": RUN, "acks": "all"})
    producer.init_transactions(60)
    for label, ended in (("committed", producer.commit_transaction), ("aborted", producer.abort_transaction)):
        producer.begin_transaction()
        send(producer, label, 60)
        ended(60)
        pipeline.drain()

    # A batch that held ends of transactions alone is part of the tables' history like any: the driver starts again.
    pipeline.kill_streaming()
    pipeline.drain()
    pipeline.load_and_build()
    report = pipeline.reconcile(RUN, tmp_path / "report.json")
    assert report["code"] == 0, report["printed"]
    assert foreign_keys(pipeline) == sorted(f"committed-{number}".encode() for number in range(60))
