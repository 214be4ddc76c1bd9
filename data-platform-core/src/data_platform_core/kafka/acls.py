"""Kafka's access rules from matrix and contracts: plan, apply and verify them against the cluster.

`binding` and `compare` are pure. Rules of principals outside the matrix (a person's, for example) are ignored.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from data_platform_core.access.kafka import Resource, Rule, wanted_rules
from data_platform_core.access.matrix import load_matrix
from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.kafka.client import CHANGE_TIMEOUT_S, POLL_S, REQUEST_TIMEOUT_S, admin, kafka_errors
from data_platform_core.settings import KafkaSettings, Settings
from data_platform_core.waiting import ask_until

_ANY_HOST = "*"
_RESOURCES = {
    Resource.TOPIC: ResourceType.TOPIC,
    Resource.GROUP: ResourceType.GROUP,
    # librdkafka's name for Kafka's cluster resource.
    Resource.CLUSTER: ResourceType.BROKER,
}


class Kind(StrEnum):
    ALLOW = "allow"
    REVOKE = "revoke"


@dataclass(frozen=True)
class Change:
    """One rule to create or to revoke."""

    kind: Kind
    binding: AclBinding

    def __str__(self) -> str:
        rule = self.binding
        name = f"{rule.name}*" if rule.resource_pattern_type is ResourcePatternType.PREFIXED else rule.name
        resource = "cluster" if rule.restype is ResourceType.BROKER else rule.restype.name.lower()
        host = "" if rule.host == _ANY_HOST else f" from {rule.host}"
        verb = "may" if rule.permission_type is AclPermissionType.ALLOW else "must not"
        return f"{rule.principal} {verb} {rule.operation.name.lower()} {resource} {name}{host}"


def binding(rule: Rule) -> AclBinding:
    """The rule as Kafka's binding."""
    return AclBinding(
        _RESOURCES[rule.resource],
        rule.name,
        ResourcePatternType[rule.pattern.name],
        f"User:{rule.principal}",
        _ANY_HOST,
        AclOperation[rule.operation.name],
        AclPermissionType.ALLOW,
    )


def compare(wanted: Iterable[Rule], observed: Iterable[AclBinding]) -> tuple[Change, ...]:
    """Changes from `observed` to `wanted`, for the principals of `wanted`. Creations precede revocations."""
    rules = {binding(rule) for rule in wanted}
    found = set(observed)
    principals = {rule.principal for rule in rules}
    surplus = {rule for rule in found - rules if rule.principal in principals}
    return (
        *(Change(Kind.ALLOW, rule) for rule in sorted(rules - found)),
        *(Change(Kind.REVOKE, rule) for rule in sorted(surplus)),
    )


def plan(settings: Settings, contracts: Mapping[str, Contract]) -> tuple[Change, ...]:
    """The changes of `apply`. Raises ConfigurationError without kafka.security, ServiceError without an answer."""
    if not settings.kafka.secured:
        raise ConfigurationError(
            f"environment {settings.environment} has no kafka.security in its topology: clients don't authenticate, "
            "so rules would have no effect"
        )
    return compare(wanted_rules(load_matrix(), contracts.values()), observe(settings.kafka))


def apply(
    settings: Settings, contracts: Mapping[str, Contract], on_change: Callable[[Change], None] | None = None
) -> tuple[Change, ...]:
    """Apply the rules of the contracts; returns the changes and calls `on_change` after each."""
    changes = plan(settings, contracts)
    if not changes:
        return changes
    client = admin(settings.kafka)
    for change in changes:
        with kafka_errors(settings.kafka, f"{change.kind} {change}"):
            _carry_out(client, change)
        if on_change:
            on_change(change)
    left = ask_until(operator.not_, lambda: plan(settings, contracts), within_s=CHANGE_TIMEOUT_S, every_s=POLL_S)
    if left:
        raise ServiceError(
            f"Kafka {settings.kafka.bootstrap_servers}: {left[0].kind} {left[0]} was accepted but is not in effect "
            f"after {CHANGE_TIMEOUT_S:g} s; are all brokers up?"
        )
    return changes


def verify_rules(settings: Settings, contracts: Mapping[str, Contract]) -> None:
    """Raises ServiceError naming the first missing or surplus rule."""
    for change in plan(settings, contracts):
        lacks = "is missing" if change.kind is Kind.ALLOW else "exists but is not in the matrix"
        raise ServiceError(f"rule {change} {lacks}; correct it with `crm acls apply`")


def observe(settings: KafkaSettings) -> tuple[AclBinding, ...]:
    """Every rule of the cluster, of every principal."""
    everything = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    client = admin(settings)  # kept: pending answers are lost with their client
    with kafka_errors(settings, "asking for rules"):
        answer = client.describe_acls(everything, request_timeout=REQUEST_TIMEOUT_S)
        return tuple(answer.result(timeout=REQUEST_TIMEOUT_S))


def _carry_out(client: AdminClient, change: Change) -> None:
    rule = change.binding
    if change.kind is Kind.ALLOW:
        futures = client.create_acls([rule], request_timeout=CHANGE_TIMEOUT_S)
    else:
        exactly = AclBindingFilter(
            rule.restype,
            rule.name,
            rule.resource_pattern_type,
            rule.principal,
            rule.host,
            rule.operation,
            rule.permission_type,
        )
        futures = client.delete_acls([exactly], request_timeout=CHANGE_TIMEOUT_S)
    for future in futures.values():
        future.result(timeout=CHANGE_TIMEOUT_S)
