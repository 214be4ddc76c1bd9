"""Offsets that a reader of committed records does not receive. Transactions leave such gaps: the end of each is a
control record of the broker, and the records of an aborted transaction stay in the log.

Our clients read committed records only: librdkafka by default, the stream by `READ_COMMITTED`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from data_platform_core.kafka.client import REQUEST_TIMEOUT_S, kafka_errors, reader
from data_platform_core.settings import KafkaSettings

#: For Spark's source.
READ_COMMITTED: Final = {"kafka.isolation.level": "read_committed"}
#: Limit of records read in one gap: that many delivered records prove that bronze lacks them.
MOST_READ: Final = 10_000
#: Timeout without a record, seconds: the client fetches and discards a long aborted transaction.
_SILENCE_S: Final = 60.0


class Gap(NamedTuple):
    """Offsets of a partition, from `first` to `last`, inclusive."""

    partition: int
    first: int
    last: int


def undelivered(settings: KafkaSettings, topic: str, gaps: Iterable[Gap]) -> list[Gap]:
    """The parts of `gaps` that no reader of committed records receives. Reads each gap from the broker.

    Offsets removed by retention, and those after MOST_READ records of a gap, count as delivered. Raises
    ServiceError when Kafka does not answer.
    """
    found: list[Gap] = []
    with kafka_errors(settings, f"reading {topic} where bronze has gaps"), reader(settings) as consumer:
        for partition, first, last in gaps:
            kept_from, _ = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=REQUEST_TIMEOUT_S)
            position = max(first, kept_from)
            for count, offset in enumerate(_delivered(consumer, topic, partition, position, last), start=1):
                if offset > position:
                    found.append(Gap(partition, position, offset - 1))
                position = offset + 1
                if count == MOST_READ:
                    break
            else:
                if position <= last:
                    found.append(Gap(partition, position, last))
    return found


def last_delivered(settings: KafkaSettings, topic: str, partition: int, start: int, end: int) -> int | None:
    """Offset of the last committed record below `end`; None if there is none from `start` on.

    Raises ServiceError when Kafka does not answer.
    """
    width = 1
    with kafka_errors(settings, f"reading the end of {topic}/{partition}"), reader(settings) as consumer:
        while True:
            begin = max(start, end - width)
            last = max(_delivered(consumer, topic, partition, begin, end - 1), default=None)
            if last is not None or begin == start:
                return last
            width *= 8


def _delivered(consumer: Consumer, topic: str, partition: int, first: int, last: int) -> Iterator[int]:
    """Offsets of the records from `first` to `last` that the broker delivers."""
    if last < first:
        return
    consumer.assign([TopicPartition(topic, partition, first)])
    deadline = time.monotonic() + _SILENCE_S
    try:
        while (left := deadline - time.monotonic()) > 0:
            message = consumer.poll(left)
            if message is None:
                continue
            if message.error() and message.error().code() != KafkaError._PARTITION_EOF:
                raise KafkaException(message.error())
            if message.error() or message.offset() > last:
                return
            yield message.offset()
            deadline = time.monotonic() + _SILENCE_S
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    finally:
        consumer.unassign()
