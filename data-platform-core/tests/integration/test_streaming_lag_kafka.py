"""The lag that the driver reports, against a real topic that grows, and the group that Kafka's own tools read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer
from confluent_kafka.admin import AdminClient
from prometheus_client import REGISTRY

from data_platform_core.contracts import Contract
from data_platform_core.kafka import topics
from data_platform_core.settings import Settings
from data_platform_core.streaming.observe.lag import LagWatch
from data_platform_core.streaming.observe.progress import ProgressReporter

pytestmark = pytest.mark.integration

WAIT_S = 20


@pytest.fixture
def admin(settings: Callable[[str], Settings]) -> Settings:
    return settings("admin")


@pytest.fixture
def client(admin: Settings) -> AdminClient:
    return AdminClient({"bootstrap.servers": admin.kafka.bootstrap_servers})


@pytest.fixture
def scratch(contracts: dict[str, Contract], admin: Settings, client: AdminClient) -> Iterator[Contract]:
    """A topic of two partitions under a name that nothing else uses."""
    orders = contracts["orders"].model_dump()
    name = f"scratch_{uuid4().hex[:8]}"
    contract = Contract.model_validate({**orders, "entity": name, "topic": {**orders["topic"], "partitions": 2}})
    topics.apply(admin, {name: contract})
    yield contract
    for future in client.delete_topics([contract.names.topic, contract.names.dlq_topic]).values():
        future.result(WAIT_S)


@pytest.fixture
def watch(admin: Settings, scratch: Contract) -> Iterator[LagWatch]:
    watch = LagWatch(admin, [scratch])
    yield watch
    watch.close()


def produce(admin: Settings, contract: Contract, partition: int, count: int) -> None:
    producer = Producer({"bootstrap.servers": admin.kafka.bootstrap_servers, "acks": "all"})
    for number in range(count):
        producer.produce(contract.names.topic, value=str(number).encode(), partition=partition)
    assert producer.flush(WAIT_S) == 0


def gauge(metric: str, contract: Contract, partition: int) -> float | None:
    return REGISTRY.get_sample_value(
        f"crm_streaming_{metric}", {"entity": contract.entity, "partition": str(partition)}
    )


def test_lag_is_reported_by_partition_in_records_and_seconds(
    admin: Settings, scratch: Contract, watch: LagWatch
) -> None:
    produce(admin, scratch, 0, 5)
    time.sleep(1.5)  # an age clearly above zero
    produce(admin, scratch, 1, 3)
    watch.poll()
    assert [gauge("lag_records", scratch, n) for n in (0, 1)] == [5, 3]
    assert watch.lag(scratch.entity) == 8
    old, young = gauge("lag_seconds", scratch, 0), gauge("lag_seconds", scratch, 1)
    assert old is not None
    assert young is not None
    assert old > 1.4
    assert old - young > 1.0


def test_the_age_is_that_of_the_oldest_record_that_waits(admin: Settings, scratch: Contract, watch: LagWatch) -> None:
    produce(admin, scratch, 0, 1)
    first_was_there = time.time()
    time.sleep(1.5)
    second_began = int(time.time() * 1000) / 1000  # Kafka's times are whole milliseconds
    produce(admin, scratch, 0, 1)
    asked = time.time()
    watch.poll()
    before = gauge("lag_seconds", scratch, 0)
    watch.committed({(scratch.names.topic, 0): 1})
    watch.poll()
    after = gauge("lag_seconds", scratch, 0)
    assert before is not None
    assert after is not None
    # Regardless of the query's duration: a lower bound from the first record, an upper bound from the second.
    assert before >= asked - first_was_there
    assert after <= time.time() - second_began
    assert gauge("lag_records", scratch, 0) == 1


def test_a_topic_whose_records_are_all_committed_has_no_lag(
    admin: Settings, scratch: Contract, watch: LagWatch
) -> None:
    produce(admin, scratch, 0, 4)
    watch.committed({(scratch.names.topic, 0): 4, (scratch.names.topic, 1): 0})
    watch.poll()
    assert [gauge("lag_records", scratch, n) for n in (0, 1)] == [0, 0]
    assert [gauge("lag_seconds", scratch, n) for n in (0, 1)] == [0, 0]


def test_partitions_that_are_added_wait_from_their_beginning(
    admin: Settings, scratch: Contract, watch: LagWatch
) -> None:
    watch.committed({(scratch.names.topic, 0): 0, (scratch.names.topic, 1): 0})
    watch.poll()
    topics.grow(admin, scratch, 4)
    produce(admin, scratch, 3, 6)
    deadline = time.monotonic() + WAIT_S
    while gauge("lag_records", scratch, 3) is None and time.monotonic() < deadline:
        watch.poll()
    assert [gauge("lag_records", scratch, n) for n in range(4)] == [0, 0, 0, 6]


def committed(client: AdminClient, group: str) -> dict[int, int]:
    """What `kafka-consumer-groups --describe` shows of a group, by partition."""
    asked = [ConsumerGroupTopicPartitions(group)]
    found: Any = client.list_consumer_group_offsets(asked)[group].result(WAIT_S)
    return {place.partition: place.offset for place in found.topic_partitions}


def test_the_group_has_the_querys_offsets_and_new_partitions_too(
    admin: Settings, client: AdminClient, scratch: Contract, watch: LagWatch
) -> None:
    topics.grow(admin, scratch, 3)
    reporter = ProgressReporter(admin, {scratch.entity: scratch}, watch, lambda entity: None)
    topic = scratch.names.topic
    try:
        reporter.resumed(scratch.names.query, f'{{"{topic}":{{"0":7,"1":0}}}}')
        assert committed(client, scratch.names.query) == {0: 7, 1: 0}
        reporter.resumed(scratch.names.query, f'{{"{topic}":{{"0":9,"1":1,"2":4}}}}')
        assert committed(client, scratch.names.query) == {0: 9, 1: 1, 2: 4}
    finally:
        reporter.close()
    partitions = REGISTRY.get_sample_value("crm_streaming_partitions", {"entity": scratch.entity})
    assert partitions == 3
