"""The stream's lag, queried from Kafka about once a second, so that it also moves during a long batch.

In records: a partition's end offset minus the end of the last finished batch. In seconds: the age of the oldest waiting
record by the broker's clock, read from Kafka at the offset where the next batch begins (ADR 0012 explains why not from
samples of the end offsets). A record waits until its batch is in the commit log.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from data_platform_core.access.kafka import LAG_GROUP
from data_platform_core.contracts import Contract
from data_platform_core.kafka.client import KAFKA, REQUEST_TIMEOUT_S, admin, connection
from data_platform_core.kafka.offsets import Partition, offsets
from data_platform_core.settings import KafkaSettings, Settings
from data_platform_core.streaming.observe.metrics import LAG, LAG_SECONDS
from data_platform_core.streaming.observe.waiting import set_waiting

#: Between polls, seconds.
LOOK_S = 1.0
# New partitions are seen at most this many polls later.
_POLLS_PER_METADATA = 5
# To read one waiting record per partition, seconds. It exists, so a healthy broker answers in milliseconds.
_READ_TIMEOUT_S = 2.0

log = structlog.get_logger(__name__)


def records_behind(
    first: Mapping[Partition, int], ends: Mapping[Partition, int], taken: Mapping[Partition, int]
) -> dict[Partition, tuple[int, int]]:
    """By partition: the offset of the oldest waiting record, and the number of waiting records.

    `first` has the first retained offsets of partitions that no batch has read yet: all of their records wait.
    """
    found = {}
    for place, end in ends.items():
        begin = taken[place] if place in taken else first.get(place, end)
        found[place] = (begin, max(0, end - begin))
    return found


def seconds_behind(now_s: float, oldest_ms: int | None) -> float:
    """Age of the oldest waiting record, seconds; 0 if none waits or the broker's clock is ahead of ours."""
    return max(0.0, now_s - oldest_ms / 1000) if oldest_ms is not None else 0.0


class LagWatch:
    """Publishes the lag of each entity. Call `committed` after each batch; `lag` returns the last poll's value."""

    def __init__(self, settings: Settings, contracts: Iterable[Contract]) -> None:
        self._entities = {contract.names.topic: contract.entity for contract in contracts}
        self._admin = admin(settings.kafka)
        self._oldest = OldestRecords(settings.kafka)
        self._taken: dict[Partition, int] = {}
        self._places: list[Partition] = []
        self._lag: dict[str, int] = {}
        self._polls = 0
        self._blind = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag", daemon=True)
        self._on_poll: Callable[[], None] = _nothing

    def committed(self, ends: Mapping[Partition, int]) -> None:
        """Record a finished batch that committed every offset below `ends`."""
        self._taken = {**self._taken, **ends}

    def lag(self, entity: str) -> int:
        """Waiting records of the entity at the last poll."""
        return self._lag.get(entity, 0)

    def waiting(self) -> Mapping[str, int] | None:
        """Waiting records by entity; None while Kafka does not answer, and before the first poll."""
        return None if self._blind else self._lag

    def start(self, on_poll: Callable[[], None]) -> None:
        """Start polling; `on_poll` is called after each poll."""
        self._on_poll = on_poll
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and close the connections to Kafka."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * _READ_TIMEOUT_S)
        self._oldest.close()

    def _run(self) -> None:
        logged = False
        while not self._stop.wait(LOOK_S):
            try:
                self.poll()
                self._blind = logged = False
                self._on_poll()
                set_waiting(KAFKA, False)
            except Exception as error:  # only visibility suffers; logged once, retried each second
                if isinstance(error, (KafkaException, TimeoutError)):  # the queries wait for Kafka as well
                    set_waiting(KAFKA, True)
                self._blind = True
                if not logged:
                    log.warning("lag not known", error=str(error))
                logged = True

    def poll(self) -> None:
        """Query Kafka once and publish. Raises KafkaException when it does not answer."""
        if self._polls % _POLLS_PER_METADATA == 0:
            self._places = self._known_places()
        self._polls += 1
        taken = self._taken  # before the ends: a batch that finishes meanwhile must not make the lag negative
        ends = offsets(self._admin, self._places, OffsetSpec.latest())
        first = offsets(self._admin, [place for place in self._places if place not in taken], OffsetSpec.earliest())
        behind = records_behind(first, ends, taken)
        oldest = self._oldest.times({place: begin for place, (begin, waiting) in behind.items() if waiting})
        now = time.time()
        totals = dict.fromkeys(self._entities.values(), 0)
        for place, (_begin, waiting) in behind.items():
            entity, partition = self._entities[place[0]], str(place[1])
            totals[entity] += waiting
            LAG.labels(entity, partition).set(waiting)
            LAG_SECONDS.labels(entity, partition).set(seconds_behind(now, oldest.get(place)))
        self._lag = totals

    def _known_places(self) -> list[Partition]:
        topics = self._admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        return [
            (topic, partition)
            for topic in self._entities
            if topic in topics and topics[topic].error is None
            for partition in sorted(topics[topic].partitions)
        ]


def _nothing() -> None:
    """No-op callback."""


class OldestRecords:
    """The broker's timestamps of single records. The last one read per partition is cached."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._consumer = Consumer(
            {
                **connection(settings),
                "group.id": LAG_GROUP,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                # A broker sends at least one batch of a producer; more is not needed.
                "fetch.message.max.bytes": 1024,
                "queued.min.messages": 1,
            }
        )
        self._known: dict[Partition, tuple[int, int]] = {}  # offset, milliseconds

    def times(self, wanted: Mapping[Partition, int]) -> dict[Partition, int]:
        """Milliseconds since 1970 of the first record at or after each offset; unreadable ones are omitted."""
        self._known = {place: known for place, known in self._known.items() if wanted.get(place) == known[0]}
        missing = {place: offset for place, offset in wanted.items() if place not in self._known}
        if missing:
            self._read(missing)
        return {place: milliseconds for place, (_offset, milliseconds) in self._known.items()}

    def _read(self, missing: dict[Partition, int]) -> None:
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in missing.items()])
        deadline = time.monotonic() + _READ_TIMEOUT_S
        try:
            while missing and (left := deadline - time.monotonic()) > 0:
                message = self._consumer.poll(left)
                if message is None or message.error():
                    continue
                place = (message.topic(), message.partition())
                if message.offset() >= missing.get(place, message.offset() + 1):
                    self._known[place] = (missing.pop(place), message.timestamp()[1])
        finally:
            self._consumer.unassign()

    def close(self) -> None:
        try:
            self._consumer.close()
        except KafkaException as error:  # closing anyway
            log.warning("lag reader not closed", error=str(error))
