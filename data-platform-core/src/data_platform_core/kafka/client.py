"""Kafka clients: one configuration, named timeouts, and errors in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from data_platform_core.access.kafka import READER_GROUP
from data_platform_core.errors import ServiceError, UnreachableError
from data_platform_core.kafka.security import librdkafka_security
from data_platform_core.settings import KafkaSettings
from data_platform_core.waiting import ask_until

#: The service's name in messages and metrics.
KAFKA = "Kafka"
#: One request to a broker, seconds. A healthy cluster answers in milliseconds, a restarting one within a few seconds.
REQUEST_TIMEOUT_S = 10.0
#: Limit for a change of topics to reach all brokers, seconds.
CHANGE_TIMEOUT_S = 30.0
#: Limit for a new topic to reach a broker after the controller created it, seconds; measured below 0.3.
METADATA_LAG_S = 2.0
#: Poll interval while waiting for a change, seconds.
POLL_S = 0.2
#: librdkafka's errors for a broker that can't be reached or does not answer.
_SILENCE = ("_TRANSPORT", "_TIMED_OUT", "_ALL_BROKERS_DOWN")


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """librdkafka's configuration for all our clients."""
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        **librdkafka_security(settings),
        # librdkafka would log each failed connection to stderr; relevant failures are raised.
        "log_level": 0,
        "error_cb": _swallow,
    }


def _swallow(_error: Any) -> None:
    """Ignore connection errors: librdkafka retries, and a request that fails for good raises."""


def admin(settings: KafkaSettings) -> AdminClient:
    """An admin client; it connects at the first request."""
    return AdminClient(connection(settings))


@contextmanager
def reader(settings: KafkaSettings, group: str = READER_GROUP) -> Iterator[Consumer]:
    """A consumer that never commits, reports the end of partitions, and is closed on leaving."""
    consumer = Consumer(
        {
            **connection(settings),
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()


@contextmanager
def kafka_errors(settings: KafkaSettings, doing: str) -> Iterator[None]:
    """Turn Kafka's exceptions into a ServiceError that names the failed step, `doing`."""
    try:
        yield
    except KafkaException as error:
        where = f"Kafka {settings.bootstrap_servers}: {doing}"
        cause = error.args[0] if error.args else error
        if hasattr(cause, "name") and cause.name() in _SILENCE:
            silence = f"no answer within {REQUEST_TIMEOUT_S:g} s; is the stack up? `make status`"
            # A refused login has the same symptom as a silent broker: librdkafka keeps retrying.
            password = f"; is the password of {settings.username} right?" if settings.secured else ""
            raise UnreachableError(KAFKA, f"{where}: {silence}{password}") from None
        text = cause.str() if hasattr(cause, "str") else str(cause)
        raise ServiceError(f"{where}: {' '.join(text.split())}") from None


def partitions(consumer: Consumer, topic: str) -> list[int]:
    """The partitions of `topic`, sorted; empty if it does not exist."""
    found = ask_until(
        lambda metadata: metadata.error is None,
        lambda: consumer.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic],
        within_s=METADATA_LAG_S,
        every_s=POLL_S,
    )
    return sorted(found.partitions) if found.error is None else []


def topic_id(settings: KafkaSettings, topic: str) -> str:
    """Kafka's id of the topic: a recreated topic has a new id. Raises ServiceError."""
    client = admin(settings)  # kept until the answer arrives: the connection closes with it
    with kafka_errors(settings, f"asking for the id of {topic}"):
        answer = client.describe_topics(TopicCollection([topic]), request_timeout=REQUEST_TIMEOUT_S)[topic]
        return str(answer.result(REQUEST_TIMEOUT_S).topic_id)


def watermarks(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    """By partition: the first retained offset, and the offset of the next record."""
    return {
        number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=REQUEST_TIMEOUT_S)
        for number in partitions(consumer, topic)
    }
