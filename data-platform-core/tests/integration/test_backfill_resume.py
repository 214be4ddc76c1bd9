"""A backfill killed at any point resumes without a duplicate or a gap, as read by a plain Kafka client."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, TopicPartition
from test_generator_run import (  # noqa: F401 - fixtures
    Reader,
    assert_ledger_equals_kafka,
    consume,
    kafka,
    ledger,
    run_id,
    start,
    store,
)

from data_generator.scenario import scenario_path
from data_platform_core.contracts import Contract
from data_platform_core.topology import Topology
from data_platform_core.wire.ledger import ORIGIN_HEADER

pytestmark = pytest.mark.integration

#: One chunk is larger than what is sent between the kills: both fall into it.
CHUNK = 40_000
DAYS = ("--from", "2026-01-05", "--to", "2026-02-03", "--scale", "0.3")  # some 47,000 records


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = yaml.safe_load(scenario_path("backfill").read_text())
    path = tmp_path_factory.mktemp("scenario") / "backfill.yaml"
    path.write_text(yaml.safe_dump(raw | {"chunk_records": CHUNK}))
    return path


def kill_after(process: subprocess.Popen[str], reader: Reader, wanted: int) -> None:
    """SIGKILL once the topics have grown to `wanted` records."""
    deadline = time.monotonic() + 180
    while sum(reader.ends().values()) < wanted:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "the backfill sends nothing"
    process.kill()
    process.communicate()


def by_key(stack: Topology, topic: str, wanted: str) -> dict[tuple[int, bytes], list[int]]:
    """Numbers of a run by (partition, key), in the order of the log."""
    consumer = Consumer({"bootstrap.servers": stack.kafka.bootstrap_servers, "group.id": "keys"})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    ends = {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10)[1] for n in partitions}
    waiting = {n for n, end in ends.items() if end}
    consumer.assign([TopicPartition(topic, n, 0) for n in waiting])
    found: dict[tuple[int, bytes], list[int]] = {}
    while waiting:
        for message in consumer.consume(2_000, 0.5):
            assert message.error() is None, message.error()
            run, _, seq = dict(message.headers() or []).get(ORIGIN_HEADER, b"//").decode().split("/")
            if run == wanted:
                found.setdefault((message.partition(), message.key()), []).append(int(seq))
            if message.offset() + 1 >= ends[message.partition()]:
                waiting.discard(message.partition())
    consumer.close()
    return found


@pytest.mark.faults
def test_killed_twice_within_a_chunk_it_ends_with_each_record_once_and_in_order(  # noqa: PLR0917 - fixtures
    stack: Topology,
    start: Callable[..., subprocess.Popen[str]],  # noqa: F811
    ledger: Any,  # noqa: F811
    kafka: Reader,  # noqa: F811
    consume: Any,  # noqa: F811
    run_id: str,  # noqa: F811
    scenario: Path,
    contracts: dict[str, Contract],
) -> None:
    before = sum(kafka.ends().values())
    whole = ("backfill", "--scenario", str(scenario), "--run-id", run_id)
    kill_after(start(*whole, *DAYS), kafka, before + 1_500)
    summary, rows = ledger(run_id)
    assert summary["resume_from"]["sends"] == 700
    held = sum(map(len, consume(run_id).values()))
    assert 700 < held < 40_700, "the kill did not fall into a chunk"
    kill_after(start(*whole, "--resume"), kafka, before + held + 1_000)
    again = sum(map(len, consume(run_id).values()))
    assert held < again < 40_700, "the second kill did not fall into the resumed chunk"
    process = start(*whole, "--resume")
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors + output
    summary, rows = ledger(run_id)
    assert summary["finished"]
    found = consume(run_id)
    for entity, sent in summary["sent"].items():
        assert sorted(seq for _, seq in found[entity].values()) == list(range(sent)), entity
        assert sorted(row["seq"] for row in rows[entity]) == list(range(sent)), entity
        for key, numbers in by_key(stack, contracts[entity].names.topic, run_id).items():
            assert numbers == sorted(numbers), key
    assert_ledger_equals_kafka(rows, found)
    done = start(*whole, "--resume")
    assert done.wait(60) == 0
    assert consume(run_id) == found


def test_a_used_run_id_is_refused_and_so_are_other_parameters(
    start: Callable[..., subprocess.Popen[str]],  # noqa: F811
    kafka: Reader,  # noqa: F811
    run_id: str,  # noqa: F811
) -> None:
    days = ("--from", "2026-01-05", "--to", "2026-01-06", "--scale", "0.01")
    first = start("backfill", "--run-id", run_id, *days)
    assert first.wait(90) == 0
    before = kafka.ends()
    for arguments, expected in (
        (("--run-id", run_id, *days), f"run id '{run_id}' was used already"),
        (("--run-id", run_id, "--resume", "--scale", "0.02", "--to", "2026-01-07"), "--scale is 0.02, was 0.01; --to"),
        (("--run-id", "never-began", "--resume"), "run 'never-began' never began"),
        (("--resume",), "--resume: say which run"),
        (("--sink", "floor"), "--sink is 'floor', give kafka or lake"),
    ):
        process = start("backfill", *arguments)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 2, errors
        assert errors.startswith("error: ")
        assert expected in errors
        assert errors.count("\n") == 1
    assert kafka.ends() == before
