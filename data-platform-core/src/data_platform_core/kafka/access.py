"""Who may do what on Kafka, derived from the contracts: one principal per service, each with the least it needs.

Pure: `acls.py` carries it to a cluster, the inventory shows it. `admin` and `broker` are super users and have no rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from data_platform_core.contracts import Contract

#: Group of `kafka.client.reader`: it never commits, but librdkafka asks for the group's coordinator.
READER_GROUP = "crm-reader"
#: Group of the client that reads the ends of topics for lag.
LAG_GROUP = "crm-lag"
#: Spark names the groups of its executors' consumers itself; they begin so, and commit nothing.
SPARK_GROUP_PREFIX = "spark-kafka-"
#: Kafka's one name for the resource `cluster`.
CLUSTER_NAME = "kafka-cluster"


class Resource(StrEnum):
    """Kinds of what a rule is about, in Kafka's words."""

    TOPIC = "topic"
    GROUP = "group"
    CLUSTER = "cluster"


class Pattern(StrEnum):
    """Whether a rule's name is the whole name or its beginning."""

    LITERAL = "literal"
    PREFIXED = "prefixed"


class Operation(StrEnum):
    """What a rule allows. READ and WRITE bring DESCRIBE with them."""

    READ = "read"
    WRITE = "write"
    DESCRIBE = "describe"
    DESCRIBE_CONFIGS = "describe_configs"


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


def wanted_rules(contracts: Iterable[Contract]) -> tuple[Rule, ...]:
    """Every rule of every principal, sorted."""
    contracts = tuple(contracts)
    return tuple(sorted({*_generator(contracts), *_streaming(contracts), *_accounting(contracts), *_exporter()}))


def _topic(principal: str, name: str, *operations: Operation) -> Iterable[Rule]:
    return (Rule(principal, Resource.TOPIC, name, operation) for operation in operations)


def _generator(contracts: Iterable[Contract]) -> Iterable[Rule]:
    """Writes topics; checks them first, and after a killed backfill reads what it has already written."""
    for contract in contracts:
        yield from _topic(
            "generator", contract.names.topic, Operation.WRITE, Operation.READ, Operation.DESCRIBE_CONFIGS
        )
        # `crm topics verify`, before a run, looks at the dead letters' topic as well.
        yield from _topic("generator", contract.names.dlq_topic, Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS)
    yield Rule("generator", Resource.GROUP, READER_GROUP, Operation.READ)


def _streaming(contracts: Iterable[Contract]) -> Iterable[Rule]:
    """Reads topics, writes dead letters, and commits its progress to a group per query."""
    for contract in contracts:
        names = contract.names
        yield from _topic("streaming", names.topic, Operation.READ, Operation.DESCRIBE_CONFIGS)
        yield from _topic("streaming", names.dlq_topic, Operation.WRITE, Operation.DESCRIBE_CONFIGS)
        yield Rule("streaming", Resource.GROUP, names.query, Operation.READ)
    yield Rule("streaming", Resource.GROUP, LAG_GROUP, Operation.READ)
    yield Rule("streaming", Resource.GROUP, SPARK_GROUP_PREFIX, Operation.READ, Pattern.PREFIXED)


def _accounting(contracts: Iterable[Contract]) -> Iterable[Rule]:
    """Reads topics, dead letters and how far each query has come; changes nothing."""
    for contract in contracts:
        names = contract.names
        yield from _topic("accounting", names.topic, Operation.READ, Operation.DESCRIBE_CONFIGS)
        yield from _topic("accounting", names.dlq_topic, Operation.READ, Operation.DESCRIBE_CONFIGS)
        # Only asks for committed offsets.
        yield Rule("accounting", Resource.GROUP, names.query, Operation.DESCRIBE)
    yield Rule("accounting", Resource.GROUP, READER_GROUP, Operation.READ)


def _exporter() -> Iterable[Rule]:
    """Sees every topic and group, and no record."""
    yield Rule("exporter", Resource.CLUSTER, CLUSTER_NAME, Operation.DESCRIBE)
    for resource in (Resource.TOPIC, Resource.GROUP):
        # `*` is Kafka's literal name for all of them.
        yield Rule("exporter", resource, "*", Operation.DESCRIBE)


def as_inventory(rules: Iterable[Rule]) -> Mapping[str, list[dict[str, object]]]:
    """The rules by principal, operations of one resource together."""
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
