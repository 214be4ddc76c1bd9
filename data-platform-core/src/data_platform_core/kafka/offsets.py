"""First and last offsets of partitions, as a reader of committed records has them."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from data_platform_core.kafka.client import REQUEST_TIMEOUT_S, admin, kafka_errors
from data_platform_core.settings import KafkaSettings

#: Topic, partition.
Partition = tuple[str, int]


def offsets(client: AdminClient, places: Iterable[Partition], spec: OffsetSpec) -> dict[Partition, int]:
    """The offset that `spec` asks for, by partition. Raises KafkaException when Kafka does not answer."""
    asked = {TopicPartition(*place): spec for place in places}
    if not asked:
        return {}
    # The stream reads committed records: a record of an open transaction waits for its producer, not for the stream.
    answers = client.list_offsets(
        asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_TIMEOUT_S
    )
    return {
        (asked_of.topic, asked_of.partition): answer.result(timeout=REQUEST_TIMEOUT_S).offset
        for asked_of, answer in answers.items()
    }


def retained(settings: KafkaSettings, topic: str) -> dict[int, tuple[int, int]]:
    """By partition of the topic the first offset that Kafka still has, and the next one. Raises ServiceError."""
    client = admin(settings)
    with kafka_errors(settings, f"asking what {topic} still has"):
        known = client.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic]
        places = [(topic, partition) for partition in sorted(known.partitions)]
        first, end = (offsets(client, places, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
        return {partition: (first[topic, partition], end[topic, partition]) for _, partition in places}
