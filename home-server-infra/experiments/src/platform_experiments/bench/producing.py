"""What the generator sends per CPU second, beside Kafka's own ProducerPerformance in the same run.

Both send records of about 300 bytes with acks=all, idempotence and lz4 to three partitions with three replicas, in
turns, so that whatever else the machine does hits both. The generator's are unique Avro orders under the contract, with
key, origin header and a ledger row each. ProducerPerformance repeats SAMPLE of the same values (it reads them as lines
of text, so the highest bit of each byte is cleared and line ends are replaced; length and structure stay, and with them
what lz4 makes of it) without key, header or ledger.

Starting costs both a second or more of CPU, so each repetition sends FEW and then MANY records: the difference is what
a record costs.
"""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic

from data_platform_core.contracts import load_contracts
from data_platform_core.errors import ServiceError
from data_platform_core.kafka.client import CHANGE_TIMEOUT_S, admin, kafka_errors, reader, watermarks
from data_platform_core.kafka.topics import wanted_topics
from data_platform_core.settings import KafkaSettings
from platform_experiments.bench.measuring import Bench, Measured, console
from platform_experiments.runtime import cpu_since

FEW, MANY = 50_000, 250_000
REPEATS = 3
#: Lines per order that make about 300 bytes of Avro.
LINES = 24
SAMPLE = 20_000
_ENTITY = "orders"
_SCRATCH = "bench-producer-performance"
_READ_SECONDS = 60
#: Both wait this long for company and send batches of this size, as the generator does.
_LINGER_MS, _BATCH_BYTES = 20, 512 * 1024
PACED_RATE, PACED_SECONDS = 3000, 30
#: Until the catalogue is out and the first minute's imports are done.
_SETTLING_SECONDS = 12


@dataclass(frozen=True)
class _Sent:
    """One sending of `records`: seconds from the first send to the last acknowledgement, CPU of the process in all."""

    records: int
    seconds: float
    cpu_s: float


def measure(bench: Bench) -> Sequence[Measured]:
    """The generator and ProducerPerformance in turns, median of REPEATS; then the generator at PACED_RATE."""
    settings = bench.settings("admin").kafka
    ours: list[tuple[_Sent, _Sent]] = []
    theirs: list[tuple[_Sent, _Sent]] = []
    console.print(
        f"producing: {REPEATS} x {FEW:,} and {MANY:,} records, the generator and ProducerPerformance in turns"
    )
    with _scratch_topic(settings), tempfile.NamedTemporaryFile("wb", suffix=".txt") as payloads:
        for number in range(1, REPEATS + 1):
            ours.append(_pair(partial(_flood, bench, f"bench-producing-{number}")))
            if number == 1:
                values = _values(settings)
                payloads.write(b"\n".join(map(_as_text, values)))
                payloads.flush()
            theirs.append(_pair(partial(_performance, bench, settings, Path(payloads.name))))
    size = statistics.mean(map(len, values))
    return [
        _row(f"generator: unique Avro orders, {size:.0f} bytes on average, ledger kept", ours),
        _row(f"ProducerPerformance: {SAMPLE:,} of these values again and again", theirs),
        _paced(bench),
    ]


def _pair(send: Callable[[int], _Sent]) -> tuple[_Sent, _Sent]:
    return send(FEW), send(MANY)


def _row(what: str, pairs: Sequence[tuple[_Sent, _Sent]]) -> Measured:
    wall = statistics.median(many.records / many.seconds for _, many in pairs)
    per_cpu = [(many.records - few.records) / (many.cpu_s - few.cpu_s) for few, many in pairs]
    whole = statistics.median(many.records / many.cpu_s for _, many in pairs)
    value = (
        f"{statistics.median(per_cpu):,.0f} records per CPU second ({min(per_cpu):,.0f}-{max(per_cpu):,.0f}; "
        f"{whole:,.0f} with its start), {wall:,.0f} records/s by the clock"
    )
    cores = statistics.median((many.cpu_s - few.cpu_s) / (many.seconds - few.seconds) for few, many in pairs)
    return Measured(what, value, None, cores)


def _flood(bench: Bench, name: str, count: int) -> _Sent:
    done = bench.flood(f"{name}-{count}", count, "--lines", str(LINES), entity=_ENTITY)
    return _Sent(count, _number(r"records/s\s+over\s+([\d.,]+)\s+s", done.output), done.cpu_s)


def _performance(bench: Bench, settings: KafkaSettings, payloads: Path, count: int) -> _Sent:
    command = [*bench.runtime.kafka_tool("org.apache.kafka.tools.ProducerPerformance"), "--topic", _SCRATCH]
    command += ["--num-records", str(count), "--payload-file", str(payloads), "--throughput", "-1"]
    command += ["--bootstrap-server", settings.bootstrap_servers, "--command-property", "acks=all"]
    command += ["enable.idempotence=true", "compression.type=lz4", f"linger.ms={_LINGER_MS}"]
    done = bench.runtime.run([*command, f"batch.size={_BATCH_BYTES}"])
    return _Sent(count, count / _number(rf"{count} records sent, ([\d.,]+) records/sec", done.output), done.cpu_s)


def _number(pattern: str, output: str) -> float:
    found = re.findall(pattern, output)
    if not found:
        raise ServiceError(f"no {pattern!r} in the output of the benchmark: {' '.join(output.split())[-300:]}")
    return float(found[-1].replace(",", ""))


def _as_text(value: bytes) -> bytes:
    return bytes(byte & 0x7F for byte in value).replace(b"\n", b"\x0b").replace(b"\r", b"\x0b")


def _values(settings: KafkaSettings) -> list[bytes]:
    """The last SAMPLE values of the entity's topic."""
    topic = load_contracts()[_ENTITY].names.topic
    found: list[bytes] = []
    with kafka_errors(settings, f"reading {topic}"), reader(settings) as consumer:
        ends = {number: end for number, (_, end) in watermarks(consumer, topic).items()}
        share = SAMPLE // len(ends)
        consumer.assign([TopicPartition(topic, number, max(0, end - share)) for number, end in ends.items()])
        deadline = time.monotonic() + _READ_SECONDS
        while len(found) < share * len(ends) and time.monotonic() < deadline:
            found += [message.value() for message in consumer.consume(1_000, 0.5) if message.error() is None]
    if not found:
        raise ServiceError(f"topic {topic} has nothing to read after a flood of {FEW:,} records")
    return found


@contextmanager
def _scratch_topic(settings: KafkaSettings) -> Iterator[None]:
    """A topic like the entity's, deleted afterwards."""
    like = replace(wanted_topics(settings, [load_contracts()[_ENTITY]])[0], name=_SCRATCH)
    client = admin(settings)
    with kafka_errors(settings, f"creating {_SCRATCH}"):
        new = NewTopic(like.name, like.partitions, like.replicas, config=dict(like.config))
        client.create_topics([new], operation_timeout=CHANGE_TIMEOUT_S)[like.name].result(timeout=CHANGE_TIMEOUT_S)
    try:
        yield
    finally:
        with kafka_errors(settings, f"deleting {_SCRATCH}"):
            client.delete_topics([_SCRATCH], operation_timeout=CHANGE_TIMEOUT_S)[_SCRATCH].result(CHANGE_TIMEOUT_S)


def _paced(bench: Bench) -> Measured:
    """The generator's share of a core at a constant rate, once it is under way."""
    console.print(f"producing: {PACED_SECONDS} s at {PACED_RATE:,}/s")
    command = bench.normal("bench-producing-paced", PACED_RATE, PACED_SECONDS + 2 * _SETTLING_SECONDS)
    generator = bench.runtime.begin("generator-paced", command)
    try:
        time.sleep(_SETTLING_SECONDS)
        before, began = generator.processes(), time.monotonic()
        time.sleep(PACED_SECONDS)
        cores = cpu_since(before, generator.processes()) / (time.monotonic() - began)
        code = generator.wait(PACED_SECONDS + 4 * _SETTLING_SECONDS)
    finally:
        generator.end()
    if code:
        raise ServiceError(f"`{' '.join(command)}` ended with exit code {code}; see {generator.place}")
    value = f"{cores:.1%} of one core, {cores / PACED_RATE * 1e6:.1f} us of CPU per record"
    return Measured(f"generator at {PACED_RATE:,}/s, the normal mix", value, None, cores)
