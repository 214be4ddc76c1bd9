"""The spike against the real stack: its ledger agrees with Kafka, with one process and with several."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from data_generator.ledger import Account
from data_generator.sinks.kafka import METADATA_REFRESH_MS, KafkaSink
from data_platform_core.accounting.ledger_reader import RunLedger, read_ledger
from data_platform_core.naming import names
from data_platform_core.settings import Settings
from data_platform_core.topology import Topology
from data_platform_core.wire.ledger import ORIGIN_HEADER, parse_origin

pytestmark = pytest.mark.integration

COMMAND = [str(Path(sys.executable).with_name("crm-generator")), "spike", "--env", "test"]
#: Every phase, in nine seconds.
SHORT = ("--baseline-rate", "100", "--baseline", "2", "--ramp", "1", "--rate", "600", "--hold", "4",
         "--decay", "1", "--recovery", "1")  # fmt: skip
DUE = 2 * 100 + 350 + 4 * 600 + 350 + 100
CATALOGUE = 2_200


@pytest.fixture
def run_id() -> str:
    return f"spike-{uuid4().hex[:12]}"


@pytest.fixture
def start(stack: Topology) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, metrics_port: int = 0) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *arguments, "--metrics-port", str(metrics_port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def ledger(settings: Callable[[str], Settings]) -> Callable[[str], RunLedger]:
    """As accounting reads it."""
    return lambda run_id: read_ledger(settings("accounting").object_store, run_id)


@pytest.fixture
def sent_by(stack: Topology) -> Callable[[str], Counter[int]]:
    """How many records of a run Kafka holds, by producer, each number of each producer once."""

    def count(run_id: str) -> Counter[int]:
        consumer = Consumer({"bootstrap.servers": stack.kafka.bootstrap_servers, "group.id": "spike-tests"})
        found: set[tuple[str, int, int]] = set()
        total = 0
        for entity in ("events", "orders", "products", "profiles"):
            topic = names(entity).topic
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            ends = {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10)[1] for n in partitions}
            left = {n for n, end in ends.items() if end}
            consumer.assign([TopicPartition(topic, n, 0) for n in left])
            while left:
                for message in consumer.consume(2_000, 1):
                    origin = parse_origin(dict(message.headers() or []).get(ORIGIN_HEADER))
                    if origin and origin.run_id == run_id:
                        found.add((entity, origin.producer_id, origin.seq))
                        total += 1
                    if message.offset() + 1 >= ends[message.partition()]:
                        left.discard(message.partition())
        consumer.close()
        assert total == len(found), "a number came twice"
        return Counter(producer for _, producer, _ in found)

    return count


def rows(found: RunLedger) -> int:
    return sum(table.num_rows for table in found.rows.values())


def test_a_short_spike_sends_what_its_phases_say_and_the_ledger_has_it(
    start: Any, ledger: Any, sent_by: Any, run_id: str
) -> None:
    process = start(*SHORT, "--run-id", run_id)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    events = [json.loads(line)["event"] for line in errors.splitlines() if line.startswith("{")]
    assert [event for event in events if event.startswith("sending: ")] == [
        f"sending: {phase}" for phase in ("baseline", "ramp", "hold", "decay", "recovery")
    ]
    (summary,) = ledger(run_id).summaries
    assert summary.due == DUE
    assert sum(summary.sent.values()) == DUE + CATALOGUE == rows(ledger(run_id))
    assert sum(count.due for count in summary.phases.values()) == DUE
    assert summary.phases["hold"].due == pytest.approx(2_400, abs=1)
    assert sent_by(run_id) == {0: DUE + CATALOGUE}
    assert "records/s over" in output


def test_two_processes_share_the_rate_under_one_metrics_port_and_a_used_run_id_is_refused(
    start: Any, ledger: Any, sent_by: Any, run_id: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start(*SHORT, "--hold", "8", "--processes", "2", "--run-id", run_id, metrics_port=port)
    phases: set[str] = set()
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
                text = answer.read().decode()
        except OSError:
            text = ""
        phases |= set(re.findall(r'crm_generator_phase\{phase="(\w+)",scenario="spike"\} 1\.0', text))
        time.sleep(0.3)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "hold" in phases
    due = DUE + 4 * 600
    found = ledger(run_id)
    assert [summary.producer_id for summary in found.summaries] == [0, 1]
    assert all(summary.finished for summary in found.summaries)
    assert sum(summary.due for summary in found.summaries) == due
    assert sent_by(run_id) == {0: due // 2 + CATALOGUE, 1: due // 2 + CATALOGUE}
    # Also when only one of the numbers that it would take is used.
    again = start(*SHORT, "--processes", "3", "--run-id", run_id, "--quiet")
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 2
    assert errors.count("\n") == 1
    assert f"error: run id '{run_id}' was used already by producer 0" in errors
    assert len(ledger(run_id).summaries) == 2


def producers_of(process: subprocess.Popen[str], timeout_s: float = 60) -> list[psutil.Process]:
    """The producer processes, by their number, once there are two."""
    deadline = time.monotonic() + timeout_s
    while True:
        assert time.monotonic() < deadline
        children = psutil.Process(process.pid).children()
        found = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        if len(found) == 2:
            return sorted(found, key=lambda child: child.pid)
        time.sleep(0.2)


def wait_for_rows(ledger: Callable[[str], RunLedger], run_id: str, least: int, timeout_s: float = 90) -> None:
    from data_platform_core.errors import AccountingError

    deadline = time.monotonic() + timeout_s
    while True:
        assert time.monotonic() < deadline, "the ledger does not grow"
        try:
            if rows(ledger(run_id)) >= least:
                return
        except AccountingError:
            pass  # nothing of it yet
        time.sleep(0.5)


def test_a_producer_that_is_killed_is_named_and_the_others_end_cleanly(start: Any, ledger: Any, run_id: str) -> None:
    process = start("--baseline", "60", "--baseline-rate", "200", "--processes", "2", "--run-id", run_id, "--quiet")
    victim = producers_of(process)[1]
    wait_for_rows(ledger, run_id, 2 * CATALOGUE + 200)
    victim.kill()
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 3
    assert f"error: producer 1 (pid {victim.pid}) was ended by SIGKILL" in errors
    assert ledger(run_id).unfinished == (1,)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_command_ends_all_its_producers_cleanly(
    start: Any, ledger: Any, sent_by: Any, run_id: str, number: signal.Signals
) -> None:
    process = start("--baseline", "60", "--baseline-rate", "200", "--processes", "2", "--run-id", run_id)
    producers = producers_of(process)
    wait_for_rows(ledger, run_id, 2 * CATALOGUE + 200)
    for one in (process, *producers):  # as a terminal does, to the whole group
        one.send_signal(number)
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    assert ledger(run_id).unfinished == ()
    assert sum(sent_by(run_id).values()) == rows(ledger(run_id))


@pytest.mark.experiments  # every later test would read, load and reconcile what it sends
def test_an_impossible_rate_is_reported_and_still_reconciled(
    start: Any, ledger: Any, sent_by: Any, run_id: str
) -> None:
    spike = ("--baseline", "1", "--ramp", "0", "--rate", "300000", "--hold", "0.5", "--decay", "0", "--recovery", "1")
    process = start(*spike, "--run-id", run_id, "--quiet")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert errors.count("\n") == 1
    told = re.search(r"phase hold asked for 300,000 records/s over 0.5 s and got ([\d,]+) records/s", errors)
    assert told, errors
    (summary,) = ledger(run_id).summaries
    assert summary.due == 100 + 150_000 + 100
    assert summary.phases["hold"].acked < summary.phases["hold"].due
    assert summary.worst_behind_s > 1
    assert sent_by(run_id) == {0: summary.due + CATALOGUE}


@pytest.fixture
def topic(stack: Topology) -> Iterator[str]:
    """A topic of one partition, deleted afterwards."""
    client = AdminClient({"bootstrap.servers": stack.kafka.bootstrap_servers})
    name = f"sink-{uuid4().hex[:8]}"
    client.create_topics([NewTopic(name, 1, 3)])[name].result(30)
    yield name
    client.delete_topics([name])[name].result(30)


def test_a_full_buffer_holds_the_sender_up_and_loses_nothing(settings: Any, topic: str, run_id: str) -> None:
    sink, account = KafkaSink(settings("generator").kafka, run_id, 0, buffer_records=10), Account("events")
    for seq in range(1_000):
        sink.send(account, topic, seq, b"key", b"value")
    sink.send_all(account, topic, 1_000, [(b"key", b"value")] * 1_000)
    assert sink.drain(30) == 0
    assert sorted(account.seqs) == list(range(2_000))
    # One partition: records are in the order in which they were sent.
    assert [seq for _, seq in sorted(zip(account.offsets, account.seqs, strict=True))] == list(range(2_000))


def test_partitions_added_meanwhile_get_records_soon(stack: Topology, settings: Any, topic: str, run_id: str) -> None:
    sink, account = KafkaSink(settings("generator").kafka, run_id, 0), Account("events")
    client = AdminClient({"bootstrap.servers": stack.kafka.bootstrap_servers})
    sink.send(account, topic, 0, b"0", b"value")
    assert sink.drain(30) == 0
    client.create_partitions([NewPartitions(topic, 3)])[topic].result(30)
    deadline, seq = time.monotonic() + 3 * METADATA_REFRESH_MS / 1000, 1
    while len(set(account.partitions)) < 3:
        assert time.monotonic() < deadline, f"only partitions {set(account.partitions)} so far"
        sink.send(account, topic, seq, b"%d" % seq, b"value")
        sink.poll(0.02)
        seq += 1
    assert sink.drain(30) == 0
