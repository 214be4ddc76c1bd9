"""Topics, registry and dead letters against the real cluster, each test on names of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.kafka import topics
from data_platform_core.kafka.dlq import read_dlq
from data_platform_core.kafka.registry import RegistryClient
from data_platform_core.kafka.serialisation import AvroEncoder, decode
from data_platform_core.kafka.topics import MIN_ISR, RETENTION, Kind
from data_platform_core.settings import Settings
from data_platform_core.wire.dead_letters import Reason
from data_platform_core.wire.ledger import ORIGIN_HEADER, Origin, origin

pytestmark = pytest.mark.integration

WAIT_S = 30


@pytest.fixture
def admin(settings: Callable[[str], Settings]) -> Settings:
    return settings("admin")


@pytest.fixture
def client(admin: Settings) -> AdminClient:
    return AdminClient({"bootstrap.servers": admin.kafka.bootstrap_servers})


@pytest.fixture
def scratch(contracts: dict[str, Contract], admin: Settings, client: AdminClient) -> Iterator[Contract]:
    """The contract of orders under a name that nothing else uses; its topics and subject are removed afterwards."""
    contract = variant(contracts["orders"], entity=f"scratch_{uuid4().hex[:8]}")
    yield contract
    there = client.list_topics(timeout=WAIT_S).topics
    ours = [name for name in (contract.names.topic, contract.names.dlq_topic) if name in there]
    if ours:
        for future in client.delete_topics(ours).values():
            future.result(WAIT_S)
    for permanent in ("", "?permanent=true"):
        httpx.delete(f"{admin.registry.url}/subjects/{contract.names.subject}{permanent}", timeout=WAIT_S)


def variant(contract: Contract, **changes: Any) -> Contract:
    return Contract.model_validate({**contract.model_dump(), **copy.deepcopy(changes)})


def resized(contract: Contract, partitions: int, hours: int = 1) -> Contract:
    return variant(contract, topic={"partitions": partitions, "retention_hours": hours})


def create(client: AdminClient, name: str, partitions: int, replicas: int, **config: str) -> None:
    named = {key.replace("_", "."): value for key, value in config.items()}
    client.create_topics([NewTopic(name, partitions, replicas, config=named)])[name].result(WAIT_S)


def one(contract: Contract) -> dict[str, Contract]:
    return {contract.entity: contract}


def line(raised: pytest.ExceptionInfo[ServiceError]) -> str:
    message = str(raised.value)
    assert "\n" not in message
    return message


class TestTopics:
    def test_apply_creates_what_contract_and_topology_say(
        self, admin: Settings, client: AdminClient, scratch: Contract
    ) -> None:
        done = topics.apply(admin, one(scratch))
        assert [change.kind for change in done] == [Kind.CREATE, Kind.CREATE]
        found = client.list_topics(timeout=WAIT_S).topics
        for name, spec in ((scratch.names.topic, scratch.topic), (scratch.names.dlq_topic, scratch.dlq)):
            assert len(found[name].partitions) == spec.partitions
            assert {len(p.replicas) for p in found[name].partitions.values()} == {admin.kafka.replication_factor}
            resource = ConfigResource(ConfigResource.Type.TOPIC, name)
            config = client.describe_configs([resource])[resource].result(WAIT_S)
            assert config[RETENTION].value == str(spec.retention_hours * 3_600_000)
            assert config[MIN_ISR].value == str(admin.kafka.min_insync_replicas)
        topics.verify_topics(admin, one(scratch))

    def test_a_second_apply_changes_nothing(self, admin: Settings, scratch: Contract) -> None:
        topics.apply(admin, one(scratch))
        assert topics.plan(admin, one(scratch)) == ()
        assert topics.apply(admin, one(scratch)) == ()

    def test_a_larger_contract_adds_partitions_and_retention(self, admin: Settings, scratch: Contract) -> None:
        topics.apply(admin, one(resized(scratch, 2)))
        larger = resized(scratch, 5, hours=7)
        assert {change.kind for change in topics.apply(admin, one(larger))} == {Kind.PARTITIONS, Kind.CONFIG}
        topics.verify_topics(admin, one(larger))

    def test_a_smaller_contract_is_refused_and_nothing_else_is_done(
        self, admin: Settings, client: AdminClient, scratch: Contract, contracts: dict[str, Contract]
    ) -> None:
        topics.apply(admin, one(resized(scratch, 4)))
        other = variant(contracts["orders"], entity=f"{scratch.entity}_b")
        with pytest.raises(ServiceError) as refused:
            topics.apply(admin, {"b": other, "a": resized(scratch, 3)})
        assert f"topic {scratch.names.topic} has 4 partitions, its contract says 3" in line(refused)
        assert "no topic was changed" in line(refused)
        assert other.names.topic not in client.list_topics(timeout=WAIT_S).topics

    def test_a_topic_grows_at_once_beyond_its_contract(self, admin: Settings, scratch: Contract) -> None:
        topics.apply(admin, one(scratch))
        assert topics.grow(admin, scratch, scratch.topic.partitions + 3) == scratch.topic.partitions
        grown = topics.observe(admin.kafka, [scratch.names.topic])[scratch.names.topic]
        assert grown.partitions == scratch.topic.partitions + 3
        topics.verify_topics(admin, one(scratch))  # producers and streams may continue

    @pytest.mark.parametrize("fewer", [0, 1])
    def test_as_many_or_fewer_partitions_are_refused_and_nothing_is_changed(
        self, admin: Settings, scratch: Contract, fewer: int
    ) -> None:
        topics.apply(admin, one(scratch))
        with pytest.raises(ConfigurationError, match="can only be added; nothing was changed"):
            topics.grow(admin, scratch, scratch.topic.partitions - fewer)
        assert topics.plan(admin, one(scratch)) == ()

    def test_a_topic_that_is_not_there_can_not_grow(self, admin: Settings, scratch: Contract) -> None:
        with pytest.raises(ServiceError, match=f"{scratch.names.topic} does not exist"):
            topics.grow(admin, scratch, 12)

    def test_a_missing_topic_is_named(self, admin: Settings, scratch: Contract) -> None:
        with pytest.raises(ServiceError) as refused:
            topics.verify_topics(admin, one(scratch))
        assert line(refused) == f"topic {scratch.names.topic} does not exist; create it with `crm topics apply`"

    def test_a_topic_with_fewer_replicas_than_topology_is_named(
        self, admin: Settings, client: AdminClient, scratch: Contract
    ) -> None:
        create(client, scratch.names.topic, scratch.topic.partitions, 1)
        with pytest.raises(ServiceError) as refused:
            topics.verify_topics(admin, one(scratch))
        assert f"topic {scratch.names.topic} has 1 replicas, topology says 3" in line(refused)
        with pytest.raises(ServiceError, match="no topic was changed"):
            topics.apply(admin, one(scratch))

    def test_a_topic_with_fewer_partitions_than_its_contract_is_named(
        self, admin: Settings, client: AdminClient, scratch: Contract
    ) -> None:
        create(client, scratch.names.topic, 1, 3, min_insync_replicas="2")
        with pytest.raises(ServiceError, match="has 1 partitions, its contract says 3"):
            topics.verify_topics(admin, one(scratch))

    def test_a_topic_that_promises_less_than_topology_is_named(
        self, admin: Settings, client: AdminClient, scratch: Contract
    ) -> None:
        create(client, scratch.names.topic, 3, 3, min_insync_replicas="1")
        with pytest.raises(ServiceError, match=r"min.insync.replicas=1, topology says 2"):
            topics.verify_topics(admin, one(scratch))

    def test_missing_brokers_are_reported_in_one_line(self, admin: Settings, scratch: Contract) -> None:
        kafka = admin.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:9"})
        with pytest.raises(ServiceError) as refused:
            topics.plan(admin.model_copy(update={"kafka": kafka}), one(scratch))
        assert "Kafka 127.0.0.1:9" in line(refused)
        assert "make status" in line(refused)


def with_field(contract: Contract, **field: Any) -> Contract:
    """The contract with one more field in its schema."""
    avro = copy.deepcopy(contract.avro)
    avro["fields"].append({"doc": "A field of the test.", **field})
    return variant(contract, avro=avro)


class TestRegistry:
    @pytest.fixture
    def registry(self, admin: Settings) -> RegistryClient:
        return RegistryClient(admin.registry)

    def test_a_schema_is_registered_once_and_under_backward_compatibility(
        self, registry: RegistryClient, admin: Settings, scratch: Contract
    ) -> None:
        ids = registry.apply([scratch])
        assert registry.apply([scratch]) == ids
        assert registry.schema_id(scratch) == ids[scratch.entity]
        assert list(registry.writer_schemas(scratch)) == [ids[scratch.entity]]
        level = httpx.get(f"{admin.registry.url}/config/{scratch.names.subject}").json()
        assert level["compatibilityLevel"] == "BACKWARD"

    def test_versions_of_a_subject_are_all_known(self, registry: RegistryClient, scratch: Contract) -> None:
        newer = with_field(scratch, name="coupon", type=["null", "string"], default=None)
        first, second = registry.apply([scratch])[scratch.entity], registry.apply([newer])[scratch.entity]
        assert first != second
        assert sorted(registry.writer_schemas(scratch)) == sorted([first, second])
        assert registry.schema_id(scratch) == first

    def test_a_record_of_one_version_is_read_as_the_other(self, registry: RegistryClient, scratch: Contract) -> None:
        newer = with_field(scratch, name="coupon", type=["null", "string"], default=None)
        registry.apply([scratch])
        registry.apply([newer])
        record = {
            "event_id": "e", "event_ts": 0, "produced_ts": 0, "source": "s", "run_id": "r", "producer_id": 0,
            "seq": 0, "order_id": "o", "order_status": "paid", "profile_id": 1, "lines": [], "amount_krw": 0,
            "payment_method": "card", "card_fingerprint": None, "ip": "10.0.0.1", "coupon": "spring",
        }  # fmt: skip
        value = AvroEncoder(newer, registry.schema_id(newer)).encode(record)
        schemas = registry.writer_schemas(scratch)
        assert decode(value, schemas)["coupon"] == "spring"
        assert "coupon" not in decode(value, schemas, scratch.avro_json)

    def test_a_subject_without_a_schema_is_reported_with_the_command(
        self, registry: RegistryClient, scratch: Contract
    ) -> None:
        for ask in (registry.schema_id, registry.writer_schemas):
            with pytest.raises(ServiceError) as refused:
                ask(scratch)
            assert f"subject {scratch.names.subject} has no schema" in line(refused)
            assert "crm registry apply" in line(refused)

    def test_a_contract_that_was_changed_but_not_registered_is_reported(
        self, registry: RegistryClient, scratch: Contract
    ) -> None:
        registry.apply([scratch])
        with pytest.raises(ServiceError, match="does not hold the schema of contract"):
            registry.schema_id(with_field(scratch, name="coupon", type=["null", "string"], default=None))

    def test_an_incompatible_contract_is_refused_with_subject_and_field_and_nothing_is_registered(
        self, registry: RegistryClient, scratch: Contract, contracts: dict[str, Contract]
    ) -> None:
        registry.apply([scratch])
        other = variant(contracts["orders"], entity=f"{scratch.entity}_b")
        broken = with_field(scratch, name="coupon", type="string")
        with pytest.raises(ServiceError) as refused:
            registry.apply([other, broken])
        assert scratch.names.subject in line(refused)
        assert "field coupon is not written, and ours has no default" in line(refused)
        with pytest.raises(ServiceError, match="has no schema"):
            registry.schema_id(other)
        with pytest.raises(ServiceError, match="field coupon"):
            registry.schema_id(broken)

    def test_an_incompatible_schema_in_the_registry_is_reported(
        self, registry: RegistryClient, admin: Settings, scratch: Contract
    ) -> None:
        url, subject = admin.registry.url, scratch.names.subject
        registry.apply([scratch])
        httpx.put(f"{url}/config/{subject}", json={"compatibility": "NONE"}).raise_for_status()
        foreign = '{"type": "record", "name": "Order", "namespace": "crm.v1", "fields": []}'
        httpx.post(f"{url}/subjects/{subject}/versions", json={"schema": foreign}).raise_for_status()
        with pytest.raises(ServiceError) as refused:
            registry.writer_schemas(scratch)
        assert f"subject {subject} version 2 can't be read as contract {scratch.entity}" in line(refused)
        assert "field event_id is not written" in line(refused)
        # A running stream continues: records of that version are dead letters.
        assert list(registry.writer_schemas(scratch, "skip")) == [registry.schema_id(scratch)]

    def test_an_address_where_no_registry_is_gives_one_line(self, admin: Settings, scratch: Contract) -> None:
        wrong = admin.registry.model_copy(update={"url": f"{admin.registry.url}/nowhere"})
        with pytest.raises(ServiceError) as refused:
            RegistryClient(wrong).apply([scratch])
        assert line(refused).startswith(f"registry {wrong.url}")


class TestDeadLetters:
    @pytest.fixture
    def send(self, admin: Settings, scratch: Contract) -> Callable[..., None]:
        """Put one record on the DLQ topic as the stream does."""
        topics.apply(admin, one(scratch))
        producer = Producer({"bootstrap.servers": admin.kafka.bootstrap_servers, "acks": "all"})

        def put(offset: int, run_id: str | None = "run-1", reason: str = Reason.UNDECODABLE.value) -> None:
            headers = [
                ("dlq-reason", reason.encode()),
                ("dlq-source", f"{scratch.names.topic}/1/{offset}".encode()),
                ("dlq-timestamp", b"1795262400123"),
                (ORIGIN_HEADER, origin(run_id, 0, offset) if run_id else b""),
            ]
            producer.produce(scratch.names.dlq_topic, b"\xff\x00", b"key", headers=headers)
            assert producer.flush(WAIT_S) == 0

        return put

    def test_all_are_read_with_the_original_bytes(
        self, admin: Settings, scratch: Contract, send: Callable[..., None]
    ) -> None:
        for offset in range(5):
            send(offset, reason="contract:has_lines")
        letters = read_dlq(admin, scratch)
        assert [letter.source.offset for letter in letters] == [0, 1, 2, 3, 4]
        assert {(letter.key, letter.value, letter.reason) for letter in letters} == {
            (b"key", b"\xff\x00", "contract:has_lines")
        }
        assert letters[3].origin == Origin("run-1", 0, 3)

    def test_one_that_was_written_twice_counts_once(
        self, admin: Settings, scratch: Contract, send: Callable[..., None]
    ) -> None:
        for offset in (7, 8, 7, 7):
            send(offset)
        assert sorted(letter.source.offset for letter in read_dlq(admin, scratch)) == [7, 8]

    def test_of_one_run_only_its_own_are_read(
        self, admin: Settings, scratch: Contract, send: Callable[..., None]
    ) -> None:
        send(1), send(2, "run-2"), send(3, None)
        assert [letter.source.offset for letter in read_dlq(admin, scratch, "run-2")] == [2]
        assert len(read_dlq(admin, scratch)) == 3

    def test_an_empty_topic_has_none(self, admin: Settings, scratch: Contract, send: Callable[..., None]) -> None:
        assert read_dlq(admin, scratch) == []

    def test_a_missing_topic_is_named(self, admin: Settings, scratch: Contract) -> None:
        with pytest.raises(ServiceError, match=scratch.names.dlq_topic):
            read_dlq(admin, scratch)

    def test_a_record_that_is_no_dead_letter_is_named(
        self, admin: Settings, scratch: Contract, send: Callable[..., None]
    ) -> None:
        producer = Producer({"bootstrap.servers": admin.kafka.bootstrap_servers})
        producer.produce(scratch.names.dlq_topic, b"hello")
        assert producer.flush(WAIT_S) == 0
        with pytest.raises(ServiceError) as refused:
            read_dlq(admin, scratch)
        assert f"{scratch.names.dlq_topic}/0/0 is no dead letter" in line(refused)
