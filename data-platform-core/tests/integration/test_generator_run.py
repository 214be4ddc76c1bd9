"""The generator against the real stack: its ledger agrees with a plain Kafka client, regardless of how it ends.

The other end is a confluent Consumer and the S3 API: neither shares code with the generator.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, TopicPartition
from minio import Minio
from minio.error import S3Error

from data_generator.run import Run
from data_generator.scenario import load_scenario, scenario_path
from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.naming import ledger_prefix
from data_platform_core.settings import Settings
from data_platform_core.topology import Topology
from data_platform_core.wire.ledger import ORIGIN_HEADER

pytestmark = pytest.mark.integration

COMMAND = [str(Path(sys.executable).with_name("crm-generator"))]
ENVIRONMENT = "test"
#: By (partition, offset): producer and number, as the header has them.
Found = dict[tuple[int, int], tuple[int, int]]


@pytest.fixture
def run_id() -> str:
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the generator beside the test; killed afterwards when it still runs."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        metrics = [] if "--metrics-port" in arguments else ["--metrics-port", "0"]
        process = subprocess.Popen(
            [*COMMAND, *arguments, *metrics, "--env", ENVIRONMENT],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def store(stack: Topology, settings: Callable[[str], Settings]) -> Minio:
    found = settings("accounting").object_store
    return Minio(
        found.url.removeprefix("http://"),
        found.access_key.get_secret_value(),
        found.secret_key.get_secret_value(),
        secure=False,
        region=found.region,
    )


@pytest.fixture
def ledger(
    store: Minio, stack: Topology
) -> Callable[[str], tuple[dict[str, Any] | None, dict[str, list[dict[str, Any]]]]]:
    """Summary and rows by entity of producer 0 of a run, read by the S3 API alone."""
    bucket = stack.object_store.buckets.ledger

    def read(run_id: str) -> tuple[dict[str, Any] | None, dict[str, list[dict[str, Any]]]]:
        summary, rows = None, defaultdict(list)
        for item in store.list_objects(bucket, ledger_prefix(run_id), recursive=True):
            data = store.get_object(bucket, item.object_name).read()
            if item.object_name.endswith(".json"):
                summary = json.loads(data)
            else:
                rows[item.object_name.split("/")[-2]] += pq.read_table(io.BytesIO(data)).to_pylist()
        return summary, rows

    return read


class Reader:
    """A plain Kafka client over the topics of all entities."""

    def __init__(self, servers: str, topics: dict[str, str]) -> None:
        self._topics = topics
        self._consumer = Consumer(
            {"bootstrap.servers": servers, "group.id": "generator-tests", "enable.auto.commit": False}
        )

    def close(self) -> None:
        self._consumer.close()

    def ends(self) -> dict[tuple[str, int], int]:
        """By topic and partition: the next offset, where it is not 0."""
        known = self._consumer.list_topics(timeout=10).topics
        found = {
            (topic, number): self._consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
            for topic in self._topics.values()
            for number in known[topic].partitions
        }
        return {place: end for place, end in found.items() if end}

    def read(self, run_id: str) -> dict[str, Found]:
        """Everything that Kafka holds of a run, by entity."""
        missing = self.ends()
        self._consumer.assign([TopicPartition(topic, number, 0) for topic, number in missing])
        found: dict[str, Found] = {topic: {} for topic in self._topics.values()}
        deadline = time.monotonic() + 60
        while missing:
            assert time.monotonic() < deadline, f"not read to the end: {missing}"
            for message in self._consumer.consume(1_000, 0.2):
                assert message.error() is None, message.error()
                place = (message.topic(), message.partition())
                header = dict(message.headers() or []).get(ORIGIN_HEADER, b"//").decode()
                run, producer, seq = header.split("/")
                if run == run_id:
                    found[message.topic()][message.partition(), message.offset()] = (int(producer), int(seq))
                if message.offset() + 1 >= missing.get(place, 0):
                    missing.pop(place, None)
        self._consumer.unassign()
        return {entity: found[topic] for entity, topic in self._topics.items()}


@pytest.fixture(scope="module")
def kafka(stack: Topology, contracts: dict[str, Contract]) -> Iterator[Reader]:
    reader = Reader(
        stack.kafka.bootstrap_servers, {entity: contract.names.topic for entity, contract in contracts.items()}
    )
    yield reader
    reader.close()


@pytest.fixture
def consume(kafka: Reader) -> Callable[[str], dict[str, Found]]:
    return kafka.read


def wait_for_sends(ledger: Callable[..., Any], run_id: str, rows: int, timeout_s: float = 60) -> None:
    """Until the ledger holds `rows` rows."""
    deadline = time.monotonic() + timeout_s
    while sum(map(len, ledger(run_id)[1].values())) < rows:
        assert time.monotonic() < deadline, "the ledger does not grow"
        time.sleep(0.5)


def assert_ledger_equals_kafka(rows: dict[str, list[dict[str, Any]]], kafka: dict[str, Found]) -> None:
    """Nothing lost, nothing twice, each at the partition and offset that the ledger names."""
    for entity, found in kafka.items():
        acknowledged = {
            (row["partition"], row["offset"]): (0, row["seq"]) for row in rows[entity] if row["outcome"] == "ok"
        }
        assert acknowledged == found, entity


def test_a_finished_run_has_acknowledged_exactly_what_a_plain_consumer_counts(
    stack: Topology, start: Any, ledger: Any, consume: Any, run_id: str
) -> None:
    process = start("normal", "--rate", "300", "--flat", "--duration", "12", "--run-id", run_id)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert f"run id {run_id}" in output
    summary, rows = ledger(run_id)
    assert summary["finished"]
    assert summary["achieved_rate"] == pytest.approx(300, rel=0.05)
    assert sum(summary["sent"].values()) == 12 * 300 + 700
    for entity, sent in summary["sent"].items():
        assert sorted(row["seq"] for row in rows[entity]) == list(range(sent))
        assert {row["outcome"] for row in rows[entity]} == {"ok"}
    assert {row["injected"] for row in rows["events"]} == {"none", "duplicate", "late", "poison"}
    assert_ledger_equals_kafka(rows, consume(run_id))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_cleanly_with_a_finished_ledger(
    stack: Topology, start: Any, ledger: Any, consume: Any, run_id: str, number: signal.Signals
) -> None:
    process = start("normal", "--rate", "200", "--flat", "--run-id", run_id)
    wait_for_sends(ledger, run_id, 1_000)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    summary, rows = ledger(run_id)
    assert summary["finished"]
    assert {entity: len(rows[entity]) for entity in summary["sent"]} == summary["sent"]
    assert_ledger_equals_kafka(rows, consume(run_id))


def test_after_kill_9_the_ledger_still_bounds_what_kafka_may_hold(
    stack: Topology, start: Any, ledger: Any, consume: Any, run_id: str
) -> None:
    # Past the first reservation of 10 s, so that the mark has moved.
    process = start("normal", "--rate", "2000", "--flat", "--run-id", run_id)
    wait_for_sends(ledger, run_id, 22_000)
    process.kill()
    process.wait()
    summary, rows = ledger(run_id)
    assert not summary["finished"]
    kafka = consume(run_id)
    assert sum(map(len, kafka.values())) > sum(map(len, rows.values())), "the kill fell into no unwritten tail"
    for entity, found in kafka.items():
        settled = {(row["partition"], row["offset"]): (0, row["seq"]) for row in rows[entity] if row["outcome"] == "ok"}
        assert settled.items() <= found.items(), "acknowledged and not there"
        untold = {seq for _, seq in found.values()} - {row["seq"] for row in rows[entity]}
        assert all(seq < summary["reserved"][entity] for seq in untold), "in Kafka and never reserved"


@pytest.mark.faults
def test_a_broker_killed_while_producing_loses_nothing(
    stack: Topology, start: Any, ledger: Any, consume: Any, run_id: str
) -> None:
    process = start("normal", "--rate", "500", "--flat", "--duration", "25", "--run-id", run_id)
    wait_for_sends(ledger, run_id, 2_000)
    broker = stack.kafka.brokers[1]
    listening_on(broker.host, broker.port).kill()
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    summary, rows = ledger(run_id)
    assert summary["finished"]
    assert sum(summary["sent"].values()) == 25 * 500 + 700
    assert {row["outcome"] for entity in rows for row in rows[entity]} == {"ok"}
    assert_ledger_equals_kafka(rows, consume(run_id))


def listening_on(host: str, port: int) -> psutil.Process:
    for connection in psutil.net_connections("tcp"):
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address.port == port and address.ip.endswith(host):
            return psutil.Process(connection.pid)
    raise AssertionError(f"nothing listens on {host}:{port}")


def test_two_producers_share_a_run_and_a_third_with_a_used_number_is_refused(
    stack: Topology, start: Any, consume: Any, run_id: str
) -> None:
    both = [
        start("normal", "--rate", "100", "--flat", "--duration", "3", "--run-id", run_id, "--producer-id", number)
        for number in ("0", "1")
    ]
    for process in both:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    sent = [origin for found in consume(run_id).values() for origin in found.values()]
    assert [sum(producer == number for producer, _ in sent) for number in (0, 1)] == [1_000, 1_000]
    again = start("normal", "--duration", "3", "--run-id", run_id, "--producer-id", "1")
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 2
    assert f"error: run id '{run_id}' was used already by producer 1" in errors


@pytest.mark.parametrize(
    ("environment", "exit_code", "expected"),
    [
        ({"CRM_OBJECT_STORE__SECRET_KEY": "wrong"}, 3, "refuses our credentials"),
        ({"CRM_OBJECT_STORE__LEDGER_BUCKET": "no-such-bucket"}, 3, "no-such-bucket"),
        ({"CRM_REGISTRY__URL": "http://127.0.0.1:1"}, 3, "registry http://127.0.0.1:1"),
        ({"CRM_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}, 3, "Kafka 127.0.0.1:1"),
        ({"CRM_KAFKA__REPLICATION_FACTOR": "5"}, 3, "has 3 replicas, topology says 5"),
        ({"CRM_KAFKA__SPEED": "5"}, 2, "CRM_KAFKA__SPEED is not a setting"),
    ],
)
def test_a_wrong_environment_is_reported_in_one_line_and_nothing_is_sent(  # noqa: PLR0917 - fixtures and cases
    stack: Topology,
    start: Any,
    ledger: Any,
    kafka: Reader,
    run_id: str,
    environment: dict[str, str],
    exit_code: int,
    expected: str,
) -> None:
    before = kafka.ends()
    process = start("normal", "--duration", "3", "--run-id", run_id, "--quiet", **environment)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == exit_code
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert expected in errors
    assert "wrong" not in errors
    assert kafka.ends() == before
    assert ledger(run_id)[0] is None


def test_a_missing_topic_is_named_before_anything_is_sent(
    stack: Topology, settings: Callable[[str], Settings], contracts: dict[str, Contract], run_id: str
) -> None:
    ghosts = Contract.model_validate(contracts["products"].model_dump() | {"entity": "ghosts"})
    with pytest.raises(ServiceError, match=r"topic crm\.ghosts\.v1 does not exist"):
        preflight(settings, {"ghosts": ghosts}, run_id)


def test_a_registry_that_holds_an_incompatible_schema_is_named_before_anything_is_sent(
    stack: Topology, settings: Callable[[str], Settings], contracts: dict[str, Contract], run_id: str
) -> None:
    wire = contracts["products"].avro
    changed = {"name": "weight_g", "type": "long", "doc": "A field that what was written before does not have."}
    products = contracts["products"].model_copy(update={"avro": wire | {"fields": [*wire["fields"], changed]}})
    with pytest.raises(ServiceError, match=r"subject crm\.products\.v1-value .*weight_g"):
        preflight(settings, {"products": products}, run_id)


def preflight(settings: Callable[[str], Settings], contracts: dict[str, Contract], run_id: str) -> None:
    """What a run checks first, for contracts that are not those of the repository."""
    Run(settings("generator"), load_scenario(scenario_path("normal")), run_id, 0)._preflight(contracts)


def test_a_flood_sends_exactly_as_many_unique_records_as_requested(
    stack: Topology, start: Any, ledger: Any, consume: Any, run_id: str
) -> None:
    process = start("flood", "--entity", "events", "--count", "20123", "--run-id", run_id)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    summary, rows = ledger(run_id)
    assert summary["sent"] == {"events": 20_123}
    kafka = consume(run_id)
    assert {entity: len(found) for entity, found in kafka.items() if found} == {"events": 20_123}
    assert_ledger_equals_kafka(rows, kafka)


def test_metrics_count_what_is_acknowledged_and_a_busy_port_is_named(
    stack: Topology, start: Any, ledger: Any, run_id: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = str(taken.getsockname()[1])
        refused = start("normal", "--duration", "3", "--run-id", f"{run_id}-busy", "--metrics-port", busy)
        _, errors = refused.communicate(timeout=60)
    assert refused.returncode == 3
    assert f"error: metrics port 127.0.0.1:{busy} can't be used" in errors
    process = start("normal", "--rate", "100", "--flat", "--run-id", run_id, "--metrics-port", busy)
    wait_for_sends(ledger, run_id, 900)
    with urllib.request.urlopen(f"http://127.0.0.1:{busy}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    acked = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if not line.startswith("#")}
    assert acked['crm_generator_acked_total{entity="profiles"}'] >= 500
    assert acked['crm_generator_produced_total{entity="events"}'] > 100
    assert acked["crm_generator_target_rate"] == 100
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_the_generators_account_may_write_the_ledger_and_not_read_the_lake(
    stack: Topology, settings: Callable[[str], Settings]
) -> None:
    found = settings("generator").object_store
    client = Minio(
        found.url.removeprefix("http://"),
        found.access_key.get_secret_value(),
        found.secret_key.get_secret_value(),
        secure=False,
        region=found.region,
    )
    with pytest.raises(S3Error, match="AccessDenied"):
        list(client.list_objects(found.lake_bucket))
