"""Topics from contracts and topology: plan, apply and verify them against the brokers.

`wanted_topics` and `compare` are pure; only `observe` and `apply` connect to Kafka.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from data_platform_core.contracts import Contract, TopicSpec
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.kafka.client import (
    CHANGE_TIMEOUT_S,
    METADATA_LAG_S,
    POLL_S,
    REQUEST_TIMEOUT_S,
    admin,
    kafka_errors,
)
from data_platform_core.settings import KafkaSettings, Settings
from data_platform_core.waiting import ask_until

RETENTION = "retention.ms"
TIMESTAMPS = "message.timestamp.type"
MIN_ISR = "min.insync.replicas"
CLEANUP = "cleanup.policy"
_MS_PER_HOUR = 3_600_000


@dataclass(frozen=True)
class Topic:
    """A topic, wanted or observed. Observed `replicas` is the smallest number any partition has."""

    name: str
    partitions: int
    replicas: int
    config: Mapping[str, str] = field(default_factory=dict)


class Kind(StrEnum):
    CREATE = "create"
    PARTITIONS = "add partitions"
    CONFIG = "configure"
    REFUSED = "refused"


@dataclass(frozen=True)
class Change:
    """One step from observed to wanted. REFUSED: a change that no command may make; `detail` has the reason."""

    kind: Kind
    wanted: Topic
    detail: str


def wanted_topics(settings: KafkaSettings, contracts: Iterable[Contract]) -> tuple[Topic, ...]:
    """A topic and a DLQ topic per contract: size and retention from the contract, replicas from the topology."""

    def topic(name: str, spec: TopicSpec) -> Topic:
        config = {
            RETENTION: str(spec.retention_hours * _MS_PER_HOUR),
            MIN_ISR: str(settings.min_insync_replicas),
            CLEANUP: "delete",
            # Lateness and deduplication use the arrival time, so the broker's clock, not each producer's.
            TIMESTAMPS: "LogAppendTime",
        }
        return Topic(name, spec.partitions, settings.replication_factor, config)

    return tuple(
        topic(name, spec)
        for contract in contracts
        for name, spec in ((contract.names.topic, contract.topic), (contract.names.dlq_topic, contract.dlq))
    )


def compare(wanted: Iterable[Topic], observed: Mapping[str, Topic]) -> tuple[Change, ...]:
    """The changes from `observed` (by name) to `wanted`; empty if they are equal."""
    return tuple(change for topic in wanted for change in _changes(topic, observed.get(topic.name)))


def _changes(wanted: Topic, found: Topic | None) -> Iterable[Change]:
    if found is None:
        yield Change(Kind.CREATE, wanted, f"{wanted.partitions} partitions, {wanted.replicas} replicas")
        return
    if found.replicas != wanted.replicas:
        yield Change(
            Kind.REFUSED,
            wanted,
            f"topic {wanted.name} has {found.replicas} replicas, topology says {wanted.replicas}; "
            f"reassign its partitions with kafka-reassign-partitions, or correct kafka.replication_factor",
        )
    if found.partitions > wanted.partitions:
        yield Change(
            Kind.REFUSED,
            wanted,
            f"topic {wanted.name} has {found.partitions} partitions, its contract says {wanted.partitions}; "
            f"partitions can't be removed: correct the contract, or create a new topic version",
        )
    if found.partitions < wanted.partitions:
        yield Change(
            Kind.PARTITIONS,
            wanted,
            f"{found.partitions} -> {wanted.partitions}; keys move, so order per key starts over",
        )
    differing = {key: value for key, value in wanted.config.items() if found.config.get(key) != value}
    if differing:
        steps = (f"{key}: {found.config.get(key, 'unset')} -> {value}" for key, value in differing.items())
        yield Change(Kind.CONFIG, wanted, ", ".join(steps))


def plan(settings: Settings, contracts: Mapping[str, Contract]) -> tuple[Change, ...]:
    """The changes of `apply`, including those it would refuse. Raises ServiceError when Kafka doesn't answer."""
    wanted = wanted_topics(settings.kafka, contracts.values())
    return compare(wanted, observe(settings.kafka, [topic.name for topic in wanted]))


def apply(
    settings: Settings, contracts: Mapping[str, Contract], on_change: Callable[[Change], None] | None = None
) -> tuple[Change, ...]:
    """Apply contracts and topology to the topics; returns the changes and calls `on_change` after each.

    Raises ServiceError, before anything is changed, when a topic has more partitions or another number of replicas.
    """
    changes = plan(settings, contracts)
    for change in changes:
        if change.kind is Kind.REFUSED:
            raise ServiceError(f"{change.detail}; no topic was changed")
    client = admin(settings.kafka)
    for change in changes:
        with kafka_errors(settings.kafka, f"{change.kind} {change.wanted.name}"):
            _carry_out(client, change)
        if on_change:
            on_change(change)
    _wait_until_visible(settings, contracts)
    return changes


def grow(settings: Settings, contract: Contract, partitions: int) -> int:
    """Temporarily raise the partitions of the entity's topic above its contract; returns the previous number.

    Keys move to other partitions, so order per key starts over. Raises ConfigurationError, before anything is changed,
    when the topic has as many or more: partitions can't be removed.
    """
    name = contract.names.topic
    found = observe(settings.kafka, [name]).get(name)
    if found is None:
        raise ServiceError(f"topic {name} does not exist; create it with `crm topics apply`")
    if partitions <= found.partitions:
        raise ConfigurationError(
            f"topic {name} has {found.partitions} partitions, {partitions} are requested: partitions can only be "
            "added; nothing was changed"
        )
    wanted = Topic(name, partitions, found.replicas)
    with kafka_errors(settings.kafka, f"{Kind.PARTITIONS} {name}"):
        _carry_out(admin(settings.kafka), Change(Kind.PARTITIONS, wanted, f"{found.partitions} -> {partitions}"))
    return found.partitions


def _carry_out(client: AdminClient, change: Change) -> None:
    topic = change.wanted
    futures: dict[Any, Any]
    if change.kind is Kind.CREATE:
        new = NewTopic(topic.name, topic.partitions, topic.replicas, config=dict(topic.config))
        futures = client.create_topics([new], operation_timeout=CHANGE_TIMEOUT_S)
    elif change.kind is Kind.PARTITIONS:
        futures = client.create_partitions(
            [NewPartitions(topic.name, topic.partitions)], operation_timeout=CHANGE_TIMEOUT_S
        )
    else:
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in topic.config.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic.name, incremental_configs=entries)
        futures = client.incremental_alter_configs([resource])
    for future in futures.values():
        try:
            future.result(timeout=CHANGE_TIMEOUT_S)
        except KafkaException as error:
            # Another `apply` was faster, or a broker was not up to date: the result is checked next.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def _wait_until_visible(settings: Settings, contracts: Mapping[str, Contract]) -> None:
    """Wait until every broker has the changes, which the controller makes first."""
    left = ask_until(operator.not_, lambda: plan(settings, contracts), within_s=CHANGE_TIMEOUT_S, every_s=POLL_S)
    if left:
        raise ServiceError(
            f"Kafka {settings.kafka.bootstrap_servers}: {left[0].kind} {left[0].wanted.name} was accepted but is "
            f"not in effect after {CHANGE_TIMEOUT_S:g} s; are all brokers up? `make status`"
        )


def observe(settings: KafkaSettings, wanted: Iterable[str]) -> dict[str, Topic]:
    """The existing topics among `wanted`, by name, as the brokers report them."""
    client = admin(settings)
    with kafka_errors(settings, "asking for topics"):
        known = client.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        names = [name for name in wanted if name in known and known[name].error is None]
        configs = _configs(client, names)
    return {
        name: Topic(
            name,
            partitions=len(known[name].partitions),
            replicas=min((len(p.replicas) for p in known[name].partitions.values()), default=0),
            config=config,
        )
        for name, config in configs.items()
    }


def _configs(client: AdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """By name; without topics that are unknown to the answering broker."""
    if not names:
        return {}
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for resource, future in client.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S).items():
        try:
            entries = future.result(timeout=REQUEST_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            continue
        found[resource.name] = {
            key: entries[key].value for key in (RETENTION, MIN_ISR, CLEANUP, TIMESTAMPS) if key in entries
        }
    return found


def verify_topics(settings: Settings, contracts: Mapping[str, Contract]) -> None:
    """Check that producers and streams may start on these topics.

    Raises ServiceError naming the first topic that is missing, has fewer partitions or replicas than contract and
    topology require, or a lower `min.insync.replicas`. Higher numbers are accepted here.
    """
    wanted = wanted_topics(settings.kafka, contracts.values())
    names = [topic.name for topic in wanted]
    observed = ask_until(
        lambda found: len(found) == len(names),
        lambda: observe(settings.kafka, names),
        within_s=METADATA_LAG_S,
        every_s=POLL_S,
    )
    for topic in wanted:
        if lacks := shortfall(topic, observed.get(topic.name)):
            raise ServiceError(f"topic {topic.name} {lacks}")


def shortfall(wanted: Topic, found: Topic | None) -> str | None:
    """What a topic lacks and how to fix it; None if producers and streams may start on it."""
    if found is None:
        return "does not exist; create it with `crm topics apply`"
    if found.partitions < wanted.partitions:
        return f"has {found.partitions} partitions, its contract says {wanted.partitions}; `crm topics apply` adds them"
    if found.replicas < wanted.replicas:
        return (
            f"has {found.replicas} replicas, topology says {wanted.replicas}; "
            f"reassign its partitions with kafka-reassign-partitions"
        )
    if int(found.config.get(MIN_ISR, "0")) < int(wanted.config[MIN_ISR]):
        return (
            f"has {MIN_ISR}={found.config.get(MIN_ISR)}, topology says {wanted.config[MIN_ISR]}; "
            f"`crm topics apply` corrects it"
        )
    return None
