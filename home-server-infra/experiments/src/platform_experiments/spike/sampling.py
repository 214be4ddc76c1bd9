"""Samples once a second: offsets as any Kafka client sees them, and the processor time of each part.

Lag is the distance between the ends of a topic's partitions and what the consumer group has committed, as in
`kafka-consumer-groups`. In seconds it is the age of the oldest record that is not committed: the moment at
which the partition's end passed the committed offset, between two samples by a straight line.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from data_platform_core.contracts import Contract
from data_platform_core.kafka.client import REQUEST_TIMEOUT_S, admin
from data_platform_core.settings import KafkaSettings
from platform_experiments.runtime import Part, Process

INTERVAL_S = 1.0


@dataclass(frozen=True)
class Sample:
    """One second. `at` is seconds since the sampler's start; counts are records since the topic's beginning.

    `cpu` holds the processor seconds used so far, by part.
    """

    at: float
    phase: str
    produced: int
    committed: int
    lag_seconds: float
    partitions: int
    executors: int
    cpu: Mapping[str, float] = field(default_factory=dict)

    @property
    def lag(self) -> int:
        return self.produced - self.committed


class OldestWaiting:
    """The age of the oldest record that a consumer has not committed, of one topic."""

    def __init__(self) -> None:
        self._ends: dict[int, deque[tuple[float, int]]] = {}

    def age(self, now: float, ends: Mapping[int, int], committed: Mapping[int, int]) -> float:
        """Seconds, 0 when nothing waits. `now` must not go back; a partition never seen began empty at `now`."""
        return max((self._age(now, number, end, committed.get(number, 0)) for number, end in ends.items()), default=0.0)

    def _age(self, now: float, number: int, end: int, committed: int) -> float:
        known = self._ends.setdefault(number, deque())
        known.append((now, end))
        # The last sample at which the record at `committed` was not there yet stays first.
        while len(known) > 1 and known[1][1] <= committed:
            known.popleft()
        if end <= committed:
            return 0.0
        before, first = known[0]
        if first > committed or len(known) == 1:  # it existed before the first sample
            return now - before
        after, then = known[1]
        arrived = before + (after - before) * (committed - first) / (then - first)
        return now - arrived


class Offsets:
    """Asks Kafka for a topic's ends and a group's commits."""

    def __init__(self, settings: KafkaSettings, contract: Contract) -> None:
        self._client: AdminClient = admin(settings)
        self._topic, self._group = contract.names.topic, contract.names.query

    def ends(self) -> dict[int, int]:
        """The offset that the next record gets, by partition. Raises KafkaException."""
        numbers = self._client.list_topics(self._topic, timeout=REQUEST_TIMEOUT_S).topics[self._topic].partitions
        asked = {TopicPartition(self._topic, number): OffsetSpec.latest() for number in numbers}
        found = self._client.list_offsets(asked, request_timeout=REQUEST_TIMEOUT_S)
        return {where.partition: future.result().offset for where, future in found.items()}

    def committed(self) -> dict[int, int]:
        """By partition; one without a commit is left out. Raises KafkaException."""
        asked = [ConsumerGroupTopicPartitions(self._group)]
        found = self._client.list_consumer_group_offsets(asked, request_timeout=REQUEST_TIMEOUT_S)
        return {
            where.partition: where.offset
            for where in found[self._group].result().topic_partitions
            if where.topic == self._topic and where.offset >= 0
        }


class CpuMeter:
    """CPU seconds by part, from its first reading on; those of a process that has ended are kept."""

    def __init__(self, parts: Mapping[str, Callable[[], Iterable[Process]]]) -> None:
        self._parts = parts
        self._known: dict[str, dict[str, float]] = {name: {} for name in parts}

    def read(self) -> tuple[dict[str, float], dict[str, int]]:
        """(CPU seconds so far, processes that run now), by part."""
        running = {name: list(processes()) for name, processes in self._parts.items()}
        for name, found in running.items():
            self._known[name] |= {process.id: process.cpu_s for process in found}
        used = {name: sum(known.values()) for name, known in self._known.items()}
        return used, {name: len(found) for name, found in running.items()}


def every(seconds: float, show: Callable[[Sample], None]) -> Callable[[Sample], None]:
    """Call `show` with a sample only when the last one shown is so old."""
    shown = 0.0

    def on_sample(sample: Sample) -> None:
        nonlocal shown
        if sample.at - shown >= seconds:
            shown = sample.at
            show(sample)

    return on_sample


class Sampler:
    """Samples in a thread of its own until closed; `samples` only grows."""

    def __init__(
        self,
        offsets: Offsets,
        cpu: CpuMeter,
        phase: Callable[[], str],
        on_sample: Callable[[Sample], None],
    ) -> None:
        self._offsets, self._cpu, self._on_sample = offsets, cpu, on_sample
        self._phase = phase
        self._oldest = OldestWaiting()
        self._began = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spike-sampler", daemon=True)
        self.samples: list[Sample] = []

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(timeout=REQUEST_TIMEOUT_S + INTERVAL_S)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def _run(self) -> None:
        due = self._began
        while not self._closing.is_set():
            try:
                sample = self._take()
            except KafkaException:
                sample = None  # a broker is away: a second without a sample, not without an experiment
            if sample:
                self.samples.append(sample)
                self._on_sample(sample)
            due += INTERVAL_S
            self._closing.wait(max(0.0, due - time.monotonic()))

    def _take(self) -> Sample:
        # Committed first: read the other way round, a commit between the two would show less than nothing waiting.
        committed, ends = self._offsets.committed(), self._offsets.ends()
        at = self.elapsed
        used, running = self._cpu.read()
        return Sample(
            at=at,
            phase=self._phase(),
            produced=sum(ends.values()),
            committed=sum(min(committed.get(number, 0), end) for number, end in ends.items()),
            lag_seconds=self._oldest.age(at, ends, committed),
            partitions=len(ends),
            executors=running[Part.EXECUTORS],
            cpu=used,
        )
