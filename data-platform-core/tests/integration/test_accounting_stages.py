"""Accounting's readers against the real stores: what they read, and how they report that a store refuses them.

Tables are written here by delta-rs for an entity that nothing else uses, so that no Spark is needed; the pipeline's own
tables are read in the end-to-end tests.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import DeltaError
from minio import Minio
from minio.error import S3Error
from minio.versioningconfig import SUSPENDED, VersioningConfig

from data_generator.ledger_store import LedgerStore
from data_platform_core.accounting import reconcile
from data_platform_core.accounting.equations import a3_offsets, offset_gaps, positions_of
from data_platform_core.accounting.lake_reader import LakeReader
from data_platform_core.accounting.ledger_reader import read_ledger
from data_platform_core.accounting.liveness import in_tables, last_offsets, topic_marks, wait_until_drained
from data_platform_core.accounting.verdict import pack
from data_platform_core.contracts import Contract
from data_platform_core.errors import AccountingError, ServiceError
from data_platform_core.kafka import topics
from data_platform_core.kafka.client import reader
from data_platform_core.kafka.committed import Gap, undelivered
from data_platform_core.kafka.serialisation import AvroEncoder
from data_platform_core.naming import ledger_prefix
from data_platform_core.settings import Settings, load_settings
from data_platform_core.warehouse.schema import migrate
from data_platform_core.wire.ledger import ORIGIN_HEADER, ProducerSummary, origin, summary_key

pytestmark = pytest.mark.integration

SCHEMA_ID = 11
WRONG = "not-the-right-one"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def run_crm(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "crm"), *arguments],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@dataclass
class Scratch:
    """An entity with topics, and tables that `write` fills as the stream does."""

    contract: Contract
    streaming: Settings
    sent: list[dict[str, Any]] = field(default_factory=list)

    def send(self, *seqs: int, event: str | None = None) -> None:
        """Produce records; `event` gives all of them that event_id."""
        producer = Producer({"bootstrap.servers": self.streaming.kafka.bootstrap_servers, "acks": "all"})
        encoder = AvroEncoder(self.contract, SCHEMA_ID)

        def landed(seq: int, event_id: str, value: bytes) -> Callable[[Any, Any], None]:
            def report(error: Any, message: Any) -> None:
                assert error is None
                place = {"partition": message.partition(), "offset": message.offset()}
                self.sent.append({"seq": seq, "event_id": event_id, "value": value, **place})

            return report

        for seq in seqs:
            event_id = event or f"event-{seq}"
            value = encoder.encode(product(seq, event_id))
            producer.produce(
                self.contract.names.topic, value, b"1", on_delivery=landed(seq, event_id, value),
                headers=[(ORIGIN_HEADER, origin("run-1", 0, seq))],
            )  # fmt: skip
        assert producer.flush(30) == 0

    def write(self, batch: int, *, bronze: list[dict[str, Any]] | None, silver: list[dict[str, Any]] | None) -> None:
        """Commit rows of `sent` as micro-batch `batch`; None leaves that table alone."""
        if bronze is not None:
            schema = pa.schema([*_ORIGIN, ("partition", pa.int32()), ("offset", pa.int64()), ("value", pa.binary()),
                                ("key", pa.binary())])  # fmt: skip
            rows = [{**row, "run_id": "run-1", "producer_id": 0, "key": b"1"} for row in bronze]
            self._append(self.contract.names.bronze, batch, pa.Table.from_pylist(rows, schema))
        if silver is not None:
            schema = pa.schema([*_ORIGIN, ("kafka_partition", pa.int32()), ("kafka_offset", pa.int64()),
                                ("kafka_ts", pa.timestamp("us", tz="UTC")), ("is_late", pa.bool_()),
                                ("event_id", pa.string())])  # fmt: skip
            rows = [
                {**row, "run_id": "run-1", "producer_id": 0, "kafka_partition": row["partition"],
                 "kafka_offset": row["offset"], "kafka_ts": NOW, "is_late": False}
                for row in silver
            ]  # fmt: skip
            self._append(self.contract.names.silver, batch, pa.Table.from_pylist(rows, schema))

    def _append(self, folder: str, batch: int, rows: pa.Table) -> None:
        store = self.streaming.object_store
        mark = json.dumps({"query": self.contract.names.query, "batch": batch})
        write_deltalake(
            f"s3://{store.lake_bucket}/{folder}", rows, mode="append",
            commit_properties=CommitProperties(custom_metadata={"userMetadata": mark}),
            storage_options={
                "AWS_ENDPOINT_URL": store.url, "AWS_REGION": store.region, "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": store.access_key.get_secret_value(),
                "AWS_SECRET_ACCESS_KEY": store.secret_key.get_secret_value(),
                "AWS_S3_ALLOW_UNSAFE_RENAME": "true",
            },
        )  # fmt: skip


_ORIGIN = [("run_id", pa.string()), ("producer_id", pa.int32()), ("seq", pa.int64())]


def product(seq: int, event_id: str) -> dict[str, Any]:
    return {
        "event_id": event_id, "event_ts": NOW, "produced_ts": NOW, "source": "test", "run_id": "run-1",
        "producer_id": 0, "seq": seq, "product_id": 1, "name": "n", "category": "food", "price_krw": 1, "stock": 1,
        "status": "active",
    }  # fmt: skip


@pytest.fixture
def accounting(settings: Callable[[str], Settings]) -> Settings:
    # Migrations let the role into the database; a second call changes nothing.
    migrate(settings("admin"))
    return settings("accounting")


@pytest.fixture
def scratch(settings: Callable[[str], Settings], contracts: dict[str, Contract]) -> Iterator[Scratch]:
    streaming, admin = settings("streaming"), settings("admin")
    contract = Contract.model_validate({**contracts["products"].model_dump(), "entity": f"scratch_{uuid4().hex[:8]}"})
    try:
        topics.apply(admin, {contract.entity: contract})
        yield Scratch(contract, streaming)
    finally:
        client = AdminClient({"bootstrap.servers": admin.kafka.bootstrap_servers})
        for future in client.delete_topics([contract.names.topic, contract.names.dlq_topic]).values():
            future.result(30)
        store, bucket = client_of(streaming), streaming.object_store.lake_bucket
        for folder in (contract.names.bronze, contract.names.silver):
            for item in store.list_objects(bucket, f"{folder}/", recursive=True):
                store.remove_object(bucket, str(item.object_name))


def client_of(settings: Settings) -> Minio:
    store = settings.object_store
    return Minio(
        store.url.removeprefix("http://"), store.access_key.get_secret_value(), store.secret_key.get_secret_value(),
        secure=False,
    )  # fmt: skip


def marks(scratch: Scratch, accounting: Settings) -> dict[int, tuple[int, int]]:
    return topic_marks(accounting, {"e": scratch.contract})["e"]


def drained(scratch: Scratch, accounting: Settings) -> bool:
    return in_tables(accounting.object_store, scratch.contract, last_offsets(marks(scratch, accounting)))


class TestDrained:
    def test_an_empty_topic_is_drained_before_there_are_tables(self, scratch: Scratch, accounting: Settings) -> None:
        assert drained(scratch, accounting)

    def test_records_without_tables_are_waited_for(self, scratch: Scratch, accounting: Settings) -> None:
        scratch.send(0, 1)
        assert not drained(scratch, accounting)

    def test_both_tables_must_have_the_batch_of_the_last_record(self, scratch: Scratch, accounting: Settings) -> None:
        scratch.send(0)
        scratch.write(0, bronze=scratch.sent, silver=scratch.sent)
        assert drained(scratch, accounting)
        scratch.send(1)
        assert not drained(scratch, accounting)
        scratch.write(1, bronze=scratch.sent[1:], silver=None)
        assert not drained(scratch, accounting), "silver has not taken batch 1"
        scratch.write(1, bronze=None, silver=[])
        assert drained(scratch, accounting), "a batch may have nothing for silver"

    def test_waiting_ends_in_time_and_names_the_condition(self, scratch: Scratch, accounting: Settings) -> None:
        scratch.send(0, 1, 2)
        told: list[dict[str, int]] = []
        waited = wait_until_drained(accounting, {"e": scratch.contract}, 2.0, lambda lags: told.append(dict(lags)))
        assert waited.waiting == {"e": 3}
        assert 2.0 <= waited.seconds < 15
        assert told[0] == {"e": 3}

    def test_waiting_ends_when_the_tables_have_it_though_no_group_committed(
        self, scratch: Scratch, accounting: Settings
    ) -> None:
        scratch.send(0)
        scratch.write(0, bronze=scratch.sent, silver=scratch.sent)
        waited = wait_until_drained(accounting, {"e": scratch.contract}, 30.0)
        assert waited.waiting == {}
        assert waited.marks["e"] == {0: (0, 1)}


@contextmanager
def transaction(scratch: Scratch, *, commit: bool, end: int) -> Iterator[Callable[[], None]]:
    """A transaction that ends on leaving, so that the topic ends at `end`; calling what it yields sends a record."""
    producer = Producer(
        {"bootstrap.servers": scratch.streaming.kafka.bootstrap_servers, "transactional.id": scratch.contract.entity}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    yield lambda: producer.produce(scratch.contract.names.topic, b"in a transaction", b"1")
    assert producer.flush(30) == 0
    if commit:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)
    # The coordinator answers before the partition has the transaction's end.
    deadline = time.monotonic() + 30
    while (found := topic_marks(scratch.streaming, {"e": scratch.contract})["e"][0][1]) != end:
        assert time.monotonic() < deadline, f"the topic ends at {found}, not at {end}"
        time.sleep(0.1)


class TestTransactions:
    """Offsets of a transaction's end, and of aborted records, are not records: they are in no table."""

    @pytest.fixture
    def topic(self, scratch: Scratch) -> Scratch:
        """Offsets 0, 1 of records; 2, 3 committed, 4 its end; 5, 6 a record; 7-9 aborted, 10 its end."""
        scratch.send(0, 1)
        with transaction(scratch, commit=True, end=5) as send:
            send()
            send()
        scratch.send(5, 6)
        with transaction(scratch, commit=False, end=11) as send:
            for _ in range(3):
                send()
        committed = [{"seq": offset, "event_id": f"event-{offset}", "value": b"", "partition": 0, "offset": offset}
                     for offset in (2, 3)]  # fmt: skip
        scratch.sent[2:2] = committed
        return scratch

    def test_a_topic_that_ends_with_an_aborted_transaction_is_drained(
        self, topic: Scratch, accounting: Settings
    ) -> None:
        topic.write(0, bronze=topic.sent, silver=topic.sent)
        self.commit_group(topic, 11)
        waited = wait_until_drained(accounting, {"e": topic.contract}, 30.0)
        assert (waited.waiting, waited.marks["e"]) == ({}, {0: (0, 11)})

    def test_the_last_record_before_it_is_waited_for(self, topic: Scratch, accounting: Settings) -> None:
        topic.write(0, bronze=topic.sent[:-1], silver=topic.sent)
        self.commit_group(topic, 11)
        assert wait_until_drained(accounting, {"e": topic.contract}, 3.0).waiting == {"e": 0}

    def test_only_records_that_are_delivered_are_missing(self, topic: Scratch, accounting: Settings) -> None:
        name, kept = topic.contract.names.topic, marks(topic, accounting)
        topic.write(0, bronze=topic.sent, silver=topic.sent)
        positions = LakeReader(accounting.object_store, topic.contract).bronze_positions()
        gaps = [Gap(*gap) for gap in offset_gaps(positions, kept)]
        assert gaps == [(0, 4, 4), (0, 7, 10)]
        given_to_nobody = undelivered(accounting.kafka, name, gaps)
        assert a3_offsets(name, positions, kept, undelivered=given_to_nobody) == []

    def test_a_record_that_is_lost_between_transactions_is_found(self, topic: Scratch, accounting: Settings) -> None:
        name, kept = topic.contract.names.topic, marks(topic, accounting)
        topic.write(0, bronze=[row for row in topic.sent if row["offset"] not in (3, 6)], silver=topic.sent)
        positions = LakeReader(accounting.object_store, topic.contract).bronze_positions()
        gaps = [Gap(*gap) for gap in offset_gaps(positions, kept)]
        given_to_nobody = undelivered(accounting.kafka, name, gaps)
        assert given_to_nobody == [(0, 4, 4), (0, 7, 10)]
        (lost,) = a3_offsets(name, positions, kept, undelivered=given_to_nobody)
        assert (lost.count, lost.examples) == (2, (f"{name}/0/3", f"{name}/0/6"))

    @staticmethod
    def commit_group(topic: Scratch, offset: int) -> None:
        names = topic.contract.names
        with reader(topic.streaming.kafka, names.query) as consumer:
            consumer.commit(offsets=[TopicPartition(names.topic, 0, offset)], asynchronous=False)


def a_summary(run_id: str, **news: Any) -> bytes:
    values = {"run_id": run_id, "producer_id": 0, "scenario": "s", "seed": 1, "started_at": NOW.isoformat()}
    return ProducerSummary.model_validate(values | news).model_dump_json().encode()


class TestEvidence:
    """The generator's account adds to a ledger; overwriting existing objects changes nothing and is detected."""

    @pytest.fixture
    def generator(self, settings: Callable[[str], Settings]) -> Settings:
        return settings("generator")

    def test_the_newest_summary_counts(self, generator: Settings, accounting: Settings) -> None:
        run, client = f"run-{uuid4().hex[:8]}", client_of(generator)
        for number, sent in ((1, {}), (2, {"orders": 5})):
            put(client, generator, summary_key(ledger_prefix(run), 0, number), a_summary(run, sent=sent, finished=True))
        ledger = read_ledger(accounting.object_store, run)
        assert [summary.sent for summary in ledger.summaries] == [{"orders": 5}]
        assert ledger.overwritten == ()

    def test_an_object_that_was_written_over_is_read_as_it_first_was_and_reported(
        self, generator: Settings, accounting: Settings
    ) -> None:
        run, client = f"run-{uuid4().hex[:8]}", client_of(generator)
        key = summary_key(ledger_prefix(run), 0, 1)
        put(client, generator, key, a_summary(run, sent={"orders": 5}, finished=True))
        put(client, generator, key, a_summary(run, sent={"orders": 4}, finished=True))
        ledger = read_ledger(accounting.object_store, run)
        assert [summary.sent for summary in ledger.summaries] == [{"orders": 5}]
        assert ledger.overwritten == (key,)

    def test_no_version_of_it_can_be_deleted_and_versions_stay_on(self, generator: Settings) -> None:
        run, client = f"run-{uuid4().hex[:8]}", client_of(generator)
        bucket, key = generator.object_store.ledger_bucket, summary_key(ledger_prefix(run), 0, 1)
        version = put(client, generator, key, b"{}")
        for forbidden in (
            lambda: client.remove_object(bucket, key),
            lambda: client.remove_object(bucket, key, version_id=version),
            lambda: client.set_bucket_versioning(bucket, VersioningConfig(SUSPENDED)),
        ):
            with pytest.raises(S3Error, match="AccessDenied"):
                forbidden()

    def test_the_generator_leaves_a_part_with_the_same_rows_and_refuses_another(self, generator: Settings) -> None:
        run = f"run-{uuid4().hex[:8]}"
        columns = {"seq": [1, 0], "outcome": ["ok"] * 2, "injected": ["none"] * 2, "partition": [0, 0],
                   "offset": [8, 7], "digest": [2, 1]}  # fmt: skip
        LedgerStore(generator.object_store, run, 0).put_part("orders", 1, columns)
        again = LedgerStore(generator.object_store, run, 0)
        again.put_part("orders", 1, {name: values[::-1] for name, values in columns.items()})
        with pytest.raises(ServiceError, match=r"part-000001\.parquet exists with other content"):
            again.put_part("orders", 1, {**columns, "offset": [8, 9]})


def put(client: Minio, settings: Settings, key: str, content: bytes) -> str | None:
    """The version that was written."""
    return client.put_object(settings.object_store.ledger_bucket, key, io.BytesIO(content), len(content)).version_id


class TestLake:
    def test_positions_agree_with_kafka_and_a_lost_one_is_found(self, scratch: Scratch, accounting: Settings) -> None:
        scratch.send(*range(20))
        scratch.write(0, bronze=[row for row in scratch.sent if row["seq"] != 13], silver=scratch.sent)
        positions = LakeReader(accounting.object_store, scratch.contract).bronze_positions()
        (lost,) = a3_offsets(scratch.contract.names.topic, positions, marks(scratch, accounting))
        assert lost.examples == (f"{scratch.contract.names.topic}/0/13",)

    def test_only_the_runs_rows_are_read(self, scratch: Scratch, accounting: Settings) -> None:
        scratch.send(0, 1)
        scratch.write(0, bronze=scratch.sent, silver=scratch.sent)
        lake = LakeReader(accounting.object_store, scratch.contract)
        assert sorted(lake.bronze_of("run-1")["seq"].to_pylist()) == [0, 1]
        assert len(lake.bronze_of("run-2")) == len(lake.silver_of("run-2")) == 0

    def test_a_duplicate_is_traced_to_its_original_and_garbage_to_nothing(
        self, scratch: Scratch, accounting: Settings
    ) -> None:
        scratch.send(0, event="the-event")
        scratch.send(1, event="the-event")
        scratch.send(2)
        original, duplicate, lost = scratch.sent
        garbage = {**lost, "offset": 3, "seq": 3, "value": b"\x00\x00\x00\x00\x0b\xff"}
        scratch.write(0, bronze=[*scratch.sent, garbage], silver=[original])
        lake = LakeReader(accounting.object_store, scratch.contract)
        left = positions_of(lake.bronze_of("run-1"))[1:]
        found = lake.repeats("run-1", left, {SCHEMA_ID: scratch.contract.avro_json})
        at = {row["seq"]: place(row) for row in (original, duplicate, lost, garbage)}
        assert found == {at[1]: at[0], at[2]: -1, at[3]: -1}

    def test_a_missing_table_is_reported_with_what_to_do(self, scratch: Scratch, accounting: Settings) -> None:
        with pytest.raises(ServiceError, match="has the stream run") as failed:
            LakeReader(accounting.object_store, scratch.contract).bronze_positions()
        assert "\n" not in str(failed.value)


def place(row: dict[str, Any]) -> int:
    return int(pack(np.array([row["partition"]]), np.array([row["offset"]]))[0])


def refusal(accounting: Settings) -> str:
    """What reconcile reports when it is refused, with the current environment."""
    with pytest.raises(ServiceError) as failed:
        reconcile.run(load_settings("accounting", accounting.environment), "any")
    assert "\n" not in str(failed.value)
    return str(failed.value)


class TestRefusals:
    def test_an_unknown_run_is_answered_with_the_known_ones(self, accounting: Settings) -> None:
        with pytest.raises(AccountingError, match="run 'no-such-run' has no ledger"):
            read_ledger(accounting.object_store, "no-such-run")

    def test_the_command_prints_one_line_and_fails(self, accounting: Settings) -> None:
        variable = "CRM_OBJECT_STORE__SECRET_KEY"
        done = run_crm("--env", accounting.environment, "reconcile", "--run-id", "any", **{variable: WRONG})
        assert done.returncode == 3
        assert variable in done.stderr
        assert WRONG not in done.stdout + done.stderr
        assert done.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        "variable",
        [
            "CRM_OBJECT_STORE__SECRET_KEY",
            "CRM_OBJECT_STORE__ACCESS_KEY",
            "CRM_POSTGRES__PASSWORD",
            "CRM_POSTGRES__USER",
        ],
    )
    def test_wrong_credentials_name_the_variable_and_not_the_secret(
        self, accounting: Settings, variable: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(variable, WRONG)
        told = refusal(accounting)
        assert variable in told
        assert variable.endswith("USER") or WRONG not in told

    @pytest.mark.parametrize("variable", ["CRM_OBJECT_STORE__SECRET_KEY", "CRM_OBJECT_STORE__ACCESS_KEY"])
    def test_delta_rs_agrees(
        self, scratch: Scratch, accounting: Settings, variable: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scratch.send(0)
        scratch.write(0, bronze=scratch.sent, silver=scratch.sent)
        monkeypatch.setenv(variable, WRONG)
        wrong = load_settings("accounting", accounting.environment)
        with pytest.raises(ServiceError) as failed:
            LakeReader(wrong.object_store, scratch.contract).bronze_positions()
        assert variable in str(failed.value)
        assert WRONG not in str(failed.value)
        assert "\n" not in str(failed.value)

    def test_a_missing_object_store_is_reported(self, accounting: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CRM_OBJECT_STORE__URL", "http://127.0.0.1:9")
        told = refusal(accounting)
        assert "object store http://127.0.0.1:9" in told
        assert "make status" in told

    def test_a_missing_postgresql_is_reported(self, accounting: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CRM_POSTGRES__PORT", "9")
        told = refusal(accounting)
        assert "PostgreSQL 127.0.0.1:9" in told
        assert "make status" in told

    def test_accounting_can_read_the_lake_and_not_write_it(self, scratch: Scratch, accounting: Settings) -> None:
        intruder = Scratch(scratch.contract, accounting)
        scratch.send(0)
        with pytest.raises((OSError, DeltaError), match=r"403|AccessDenied|Forbidden"):
            intruder.write(0, bronze=scratch.sent, silver=None)
