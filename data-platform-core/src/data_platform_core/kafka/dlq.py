"""Reads a dead-letter topic; `wire.dead_letters` describes its records."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.kafka.client import REQUEST_TIMEOUT_S, kafka_errors, reader, watermarks
from data_platform_core.settings import Settings
from data_platform_core.wire.dead_letters import DeadLetter, Source, parse

# `consume` waits for this many records or its timeout: small and short, so that the end is noticed at once.
_FETCH = 500
_FETCH_S = 0.2


def read_dlq(settings: Settings, contract: Contract, run_id: str | None = None) -> list[DeadLetter]:
    """Every dead letter in the entity's DLQ now (only of `run_id`, if given), one per source.

    Raises ServiceError when the topic is missing, Kafka doesn't answer, or a record on it is no dead letter.
    """
    topic = contract.names.dlq_topic
    letters: dict[Source, DeadLetter] = {}
    with kafka_errors(settings.kafka, f"reading {topic}"), reader(settings.kafka) as consumer:
        marks = watermarks(consumer, topic)
        if not marks:
            raise ServiceError(f"topic {topic} does not exist; create it with `crm topics apply`")
        for message in _messages(consumer, topic, marks):
            try:
                letter = parse(message.key(), message.value(), message.headers())
            except ValueError as error:
                where = f"{topic}/{message.partition()}/{message.offset()}"
                raise ServiceError(
                    f"record {where} is no dead letter: {error}; is another producer writing to {topic}?"
                ) from None
            if run_id is None or (letter.origin and letter.origin.run_id == run_id):
                letters.setdefault(letter.source, letter)
    return list(letters.values())


def _messages(consumer: Consumer, topic: str, marks: dict[int, tuple[int, int]]) -> Iterable[Any]:
    """The messages from the beginning up to the ends in `marks`."""
    open_ = {number for number, (start, end) in marks.items() if end > start}
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in sorted(open_)])
    silent_since = time.monotonic()
    while open_:
        batch = consumer.consume(_FETCH, timeout=_FETCH_S)
        if batch:
            silent_since = time.monotonic()
        elif time.monotonic() - silent_since > REQUEST_TIMEOUT_S:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        for message in batch:
            number = message.partition()
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                open_.discard(number)
                continue
            if message.offset() < marks[number][1]:
                yield message
            if message.offset() >= marks[number][1] - 1:
                open_.discard(number)
