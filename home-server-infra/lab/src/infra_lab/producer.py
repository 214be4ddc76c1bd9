"""A producer with acks=all that runs during faults, and the check of every acknowledged offset.

It numbers its records, remembers partition and offset of each acknowledgement, and reads the topic afterwards: a record
that was acknowledged and is not at its offset is lost.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from data_platform_core.errors import AccountingError, ServiceError

_ADMIN_SECONDS = 30.0
_READ_SECONDS = 60.0
PartitionOffset = tuple[int, int]


@dataclass(frozen=True)
class Account:
    """Outcome of one load. `longest_gap_s` is the longest time without an acknowledgement."""

    sent: int
    acknowledged: int
    failed: int
    found: int
    lost: int
    duplicates: int
    longest_gap_s: float

    def require_nothing_lost(self) -> Account:
        """Raises AccountingError when an acknowledged record is not at its offset, or none was sent."""
        if self.lost or not self.acknowledged:
            raise AccountingError(f"{self.lost} of {self.acknowledged} acknowledged records are lost: {self}")
        return self


@dataclass
class Load:
    """Records per second to one topic, from `start` to `finish`."""

    config: Mapping[str, Any]
    topic: str
    rate: float
    _acknowledged: dict[int, PartitionOffset] = field(default_factory=dict)
    _failed: int = 0
    _sent: int = 0
    _times: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start in the background."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self) -> Account:
        """Stop, wait for every outcome, read the topic, and compare."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        found = read_topic(self.config, self.topic)
        return account(self._sent, self._acknowledged, self._failed, found, self._times)

    def _run(self) -> None:
        # Idempotence keeps retries from doubling records; a record may wait during a node's failure, but not forever.
        producer = Producer(
            {**self.config, "acks": "all", "enable.idempotence": True, "linger.ms": 5, "delivery.timeout.ms": 120_000}
        )
        began = time.monotonic()
        while not self._stop.is_set():
            number = self._sent
            try:
                producer.produce(
                    self.topic, value=str(number).encode(), key=str(number % 64).encode(),
                    on_delivery=lambda error, message, number=number: self._delivered(number, error, message),
                )  # fmt: skip
                self._sent += 1
            except BufferError:
                producer.poll(0.1)
                continue
            producer.poll(0)
            ahead = began + self._sent / self.rate - time.monotonic()
            if ahead > 0:
                producer.poll(ahead)
        if left := producer.flush(150):
            self._failed += left

    def _delivered(self, number: int, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._failed += 1
            return
        self._acknowledged[number] = (message.partition(), message.offset())
        self._times.append(time.monotonic())


def account(
    sent: int,
    acknowledged: Mapping[int, PartitionOffset],
    failed: int,
    found: Mapping[PartitionOffset, int],
    times: list[float],
) -> Account:
    """Compare the acknowledged records with the topic."""
    lost = sum(1 for number, place in acknowledged.items() if found.get(place) != number)
    copies = Counter(found.values())
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return Account(
        sent=sent,
        acknowledged=len(acknowledged),
        failed=failed,
        found=len(found),
        lost=lost,
        duplicates=sum(count - 1 for count in copies.values()),
        longest_gap_s=max(gaps, default=0.0),
    )


def make_topic(config: Mapping[str, Any], topic: str, partitions: int, replication: int) -> None:
    """Recreate the topic. Raises ServiceError when the brokers refuse."""
    admin = AdminClient(dict(config))
    wanted = NewTopic(topic, partitions, replication, config={"min.insync.replicas": str(replication - 1)})
    try:
        for done in admin.create_topics([wanted], operation_timeout=_ADMIN_SECONDS).values():
            done.result(_ADMIN_SECONDS)
    except KafkaException as error:
        raise ServiceError(f"topic {topic} can't be made: {error}") from error


def delete_topic(config: Mapping[str, Any], topic: str) -> None:
    """Raises ServiceError when the brokers refuse."""
    admin = AdminClient(dict(config))  # kept: pending answers are lost with their client
    try:
        for done in admin.delete_topics([topic], operation_timeout=_ADMIN_SECONDS).values():
            done.result(_ADMIN_SECONDS)
    except KafkaException as error:
        raise ServiceError(f"topic {topic} can't be deleted: {error}") from error


def out_of_sync(config: Mapping[str, Any], topic: str, replicas: int) -> list[int]:
    """Partitions with fewer than `replicas` in sync."""
    partitions = AdminClient(dict(config)).list_topics(topic, _ADMIN_SECONDS).topics[topic].partitions
    return sorted(number for number, partition in partitions.items() if len(partition.isrs) < replicas)


def read_topic(config: Mapping[str, Any], topic: str) -> dict[PartitionOffset, int]:
    """Number of each record by partition and offset, up to the current ends.

    Raises ServiceError when it stalls.
    """
    consumer = Consumer({**config, "group.id": "crm-lab", "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    try:
        partitions = consumer.list_topics(topic, _READ_SECONDS).topics[topic].partitions
        places = [TopicPartition(topic, number, 0) for number in partitions]
        ends = {place.partition: consumer.get_watermark_offsets(place, _READ_SECONDS)[1] for place in places}
        consumer.assign(places)
        found: dict[PartitionOffset, int] = {}
        last = time.monotonic()
        while any(consumer_position < ends[number] for number, consumer_position in _positions(consumer, places)):
            for message in consumer.consume(1000, timeout=1.0):
                if message.error() is None:
                    found[message.partition(), message.offset()] = int(message.value())
                    last = time.monotonic()
            if time.monotonic() - last > _READ_SECONDS:
                raise ServiceError(f"topic {topic} can't be read to its end in {_READ_SECONDS:g} s")
        return found
    finally:
        consumer.close()


def _positions(consumer: Consumer, places: list[TopicPartition]) -> list[PartitionOffset]:
    """(partition, next offset); 0 for a partition without records so far."""
    return [(place.partition, max(place.offset, 0)) for place in consumer.position(places)]


def refused(config: Mapping[str, Any], topic: str) -> str:
    """The brokers' error for a producer without write access. Raises ServiceError when they accept it."""
    errors: list[KafkaError | None] = []
    producer = Producer({**config, "message.timeout.ms": 15_000})
    producer.produce(topic, b"not allowed", on_delivery=lambda error, message: errors.append(error))
    producer.flush(20)
    if not errors or errors[0] is None:
        raise ServiceError(f"{config.get('sasl.username')} could write to {topic}; the ACLs do not hold")
    return str(errors[0].name())
