"""Rules on Kafka, derived from matrix and contracts: one principal per service, with the service's name.

Pure: `kafka/acls.py` applies them to a cluster, the inventory lists them. Super users have no rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from data_platform_core.access.matrix import KafkaAccess, Matrix, Operation
from data_platform_core.access.names import BROKER
from data_platform_core.contracts import Contract

#: Group of `kafka.client.reader`: it never commits, but librdkafka asks for the group's coordinator.
READER_GROUP = "crm-reader"
#: Group of the client that reads the ends of topics for lag.
LAG_GROUP = "crm-lag"
#: Spark chooses the groups of its executors' consumers. Their names begin with this, and they commit nothing.
SPARK_GROUP_PREFIX = "spark-kafka-"
#: Kafka's name of its single `cluster` resource.
CLUSTER_NAME = "kafka-cluster"
#: Kafka's literal name for all topics, or all groups.
EVERY = "*"


class Resource(StrEnum):
    """Resource types of Kafka's rules."""

    TOPIC = "topic"
    GROUP = "group"
    CLUSTER = "cluster"


class Pattern(StrEnum):
    """Whether a rule's name is the whole name or its beginning."""

    LITERAL = "literal"
    PREFIXED = "prefixed"


@dataclass(frozen=True, order=True)
class Rule:
    """Allows `principal` (without `User:`), from any host, one operation."""

    principal: str
    resource: Resource
    name: str
    operation: Operation
    pattern: Pattern = Pattern.LITERAL

    def __str__(self) -> str:
        name = f"{self.name}*" if self.pattern is Pattern.PREFIXED else self.name
        return f"{self.principal} may {self.operation} {self.resource} {name}"


def wanted_rules(matrix: Matrix, contracts: Iterable[Contract]) -> tuple[Rule, ...]:
    """Every rule of every principal, sorted."""
    contracts = tuple(contracts)
    return tuple(
        sorted({rule for service, access in matrix.kafka.items() for rule in _rules(service, access, contracts)})
    )


def super_users(matrix: Matrix) -> tuple[str, ...]:
    """Principals without rules: the brokers' own, and the matrix's super users."""
    return (BROKER, *(service for service, access in matrix.kafka.items() if access.super_user))


def _rules(service: str, access: KafkaAccess, contracts: Iterable[Contract]) -> Iterator[Rule]:
    for resource, name, operations, pattern in _resources(access, contracts):
        for operation in operations:
            yield Rule(service, resource, name, operation, pattern)


def _resources(
    access: KafkaAccess, contracts: Iterable[Contract]
) -> Iterator[tuple[Resource, str, tuple[Operation, ...], Pattern]]:
    for contract in contracts:
        names = contract.names
        yield Resource.TOPIC, names.topic, access.topics, Pattern.LITERAL
        yield Resource.TOPIC, names.dlq_topic, access.dead_letters, Pattern.LITERAL
        yield Resource.GROUP, names.query, access.query_groups, Pattern.LITERAL
    yield Resource.GROUP, READER_GROUP, access.reader_group, Pattern.LITERAL
    yield Resource.GROUP, LAG_GROUP, access.lag_group, Pattern.LITERAL
    yield Resource.GROUP, SPARK_GROUP_PREFIX, access.spark_groups, Pattern.PREFIXED
    yield Resource.CLUSTER, CLUSTER_NAME, access.cluster, Pattern.LITERAL
    yield Resource.TOPIC, EVERY, access.all_topics, Pattern.LITERAL
    yield Resource.GROUP, EVERY, access.all_groups, Pattern.LITERAL


def as_inventory(rules: Iterable[Rule]) -> Mapping[str, list[dict[str, object]]]:
    """The rules by principal, with the operations of a resource grouped."""
    grouped: dict[str, dict[tuple[Resource, str, Pattern], list[str]]] = {}
    for rule in rules:
        resources = grouped.setdefault(rule.principal, {})
        resources.setdefault((rule.resource, rule.name, rule.pattern), []).append(rule.operation.value)
    return {
        principal: [
            {"resource": resource.value, "name": name, "pattern": pattern.value, "operations": operations}
            for (resource, name, pattern), operations in resources.items()
        ]
        for principal, resources in grouped.items()
    }
