"""Finds the records of an unfinished chunk in Kafka's log.

The killed process may have sent records whose acknowledgements were lost. They are at the mark's offsets or above, and
each has its number in the origin header. The reader continues until the log has been quiet for QUIET_S: by then the
requests in flight of the killed process are in the log, or never will be.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from data_generator.backfill.mark import Offsets
from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.kafka.client import REQUEST_TIMEOUT_S, kafka_errors, reader, watermarks
from data_platform_core.settings import KafkaSettings
from data_platform_core.wire.ledger import ORIGIN_HEADER, origin

#: No record of the run for this long: requests on the wire and followers' fetches take milliseconds.
QUIET_S = 3.0
#: A run that still grows after this long is not dead, seconds in addition to the reading.
PATIENCE_S = 20.0
# `consume` waits until it has this many or its time is over.
_FETCH, _FETCH_S = 5_000, 0.2


@dataclass
class Tail:
    """Records of one entity: (partition, offset) by number, and the highest number by key."""

    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    highest: dict[bytes, int] = field(default_factory=dict)
    _last: dict[int, int] = field(default_factory=dict)

    def take(self, topic: str, partition: int, offset: int, seq: int, key: bytes) -> None:
        """The next record of a partition. Raises ServiceError when one producer can't have written this log."""
        where = f"{topic}/{partition}/{offset}"
        if seq in self.places:
            before = "/".join(map(str, self.places[seq]))
            raise ServiceError(f"record {where} is send {seq} again, which is at {before}; two processes sent this run")
        if seq < self._last.get(partition, -1):
            raise ServiceError(f"record {where} is send {seq}, behind a later one; two processes sent this run")
        self._last[partition] = seq
        self.places[seq] = (partition, offset)
        self.highest[key] = max(seq, self.highest.get(key, -1))


def topic_ends(settings: KafkaSettings, contracts: Iterable[Contract]) -> Offsets:
    """By entity and partition: the offset that the next record will get."""
    with kafka_errors(settings, "asking for offsets"), reader(settings) as consumer:
        return {
            contract.entity: {number: end for number, (_, end) in watermarks(consumer, contract.names.topic).items()}
            for contract in contracts
        }


def read_tails(
    settings: KafkaSettings,
    contracts: Mapping[str, Contract],
    ends: Offsets,
    run_id: str,
    producer_id: int,
    quiet_s: float = QUIET_S,
) -> dict[str, Tail]:
    """The run's records from `ends` on, by entity. Raises ServiceError when the run still grows, or retention has
    deleted records after the mark."""
    with kafka_errors(settings, "reading what the run left"), reader(settings) as consumer:
        return _Reading(consumer, contracts, ends, origin(run_id, producer_id, 0)[:-1]).until_quiet(quiet_s)


class _Reading:
    def __init__(self, consumer: Consumer, contracts: Mapping[str, Contract], ends: Offsets, prefix: bytes) -> None:
        self._consumer, self._prefix = consumer, prefix
        self._topics = {contract.names.topic: entity for entity, contract in contracts.items()}
        self._tails = {entity: Tail() for entity in contracts}
        self._next = {
            (topic, number): self._start(topic, number, kept, ends.get(entity, {}).get(number, 0))
            for topic, entity in self._topics.items()
            for number, (kept, _) in watermarks(consumer, topic).items()
        }

    @staticmethod
    def _start(topic: str, partition: int, kept: int, marked: int) -> int:
        if kept > marked:
            raise ServiceError(
                f"topic {topic}/{partition} begins at offset {kept}, the run's mark is {marked}: retention has deleted "
                "the records that show what was sent; start a new run"
            )
        return marked

    def until_quiet(self, quiet_s: float) -> dict[str, Tail]:
        self._consumer.assign([TopicPartition(topic, number, at) for (topic, number), at in self._next.items()])
        begun = quiet_since = time.monotonic()
        while not self._at_end() or time.monotonic() - quiet_since < quiet_s:
            messages = self._consumer.consume(_FETCH, timeout=_FETCH_S)
            mine = sum([self._take(message) for message in messages])
            now = time.monotonic()
            if not messages and not self._at_end() and now - quiet_since > quiet_s + REQUEST_TIMEOUT_S:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            if mine or not self._at_end():
                quiet_since = now if messages else quiet_since
            if mine and now - begun > PATIENCE_S and self._at_end():
                raise ServiceError("the run still grows in Kafka: another process sends it; stop that one first")
        return self._tails

    def _at_end(self) -> bool:
        for topic, number in self._next:
            position = self._consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=REQUEST_TIMEOUT_S)
            if self._next[topic, number] < position[1]:
                return False
        return True

    def _take(self, message: Any) -> bool:
        """Whether the message is a record of the run."""
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                return False
            raise KafkaException(error)
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        self._next[topic, partition] = offset + 1
        header = next((value for name, value in message.headers() or () if name == ORIGIN_HEADER), None) or b""
        if not header.startswith(self._prefix):
            return False
        self._tails[self._topics[topic]].take(
            topic, partition, offset, int(header[len(self._prefix) :]), message.key() or b""
        )
        return True
