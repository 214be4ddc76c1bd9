"""Rules on Kafka as matrix and contracts want them, beside what the cluster has: plan, apply, verify.

`binding` and `compare` are pure. Rules of principals that the matrix does not name, as a person's, are ignored.
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
    # librdkafka's word for what Kafka calls the cluster.
    Resource.CLUSTER: ResourceType.BROKER,
}


class Kind(StrEnum):
    ALLOW = "allow"
    REVOKE = "revoke"


@dataclass(frozen=True)
class Change:
    """One rule to make or to take away."""

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
    """The rule in Kafka's words."""
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
    """What makes `observed` into `wanted`, for the principals of `wanted`; rules are made before others are revoked."""
    rules = {binding(rule) for rule in wanted}
    found = set(observed)
    principals = {rule.principal for rule in rules}
    surplus = {rule for rule in found - rules if rule.principal in principals}
    return (
        *(Change(Kind.ALLOW, rule) for rule in sorted(rules - found)),
        *(Change(Kind.REVOKE, rule) for rule in sorted(surplus)),
    )


def plan(settings: Settings, contracts: Mapping[str, Contract]) -> tuple[Change, ...]:
    """What `apply` would do. Raises ConfigurationError where Kafka has no security, ServiceError when it is silent."""
    if not settings.kafka.secured:
        raise ConfigurationError(
            f"environment {settings.environment} has no kafka.security in its topology: brokers ask nobody who they "
            "are, so rules would bind nobody"
        )
    return compare(wanted_rules(load_matrix(), contracts.values()), observe(settings.kafka))


def apply(
    settings: Settings, contracts: Mapping[str, Contract], on_change: Callable[[Change], None] | None = None
) -> tuple[Change, ...]:
    """Make the rules what the contracts say; returns what was done, and tells `on_change` of each step."""
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
    """Raises ServiceError naming the first rule that is missing, or that is there and must not be."""
    for change in plan(settings, contracts):
        lacks = "is missing" if change.kind is Kind.ALLOW else "is there and the matrix does not want it"
        raise ServiceError(f"rule {change} {lacks}; correct it with `crm acls apply`")


def observe(settings: KafkaSettings) -> tuple[AclBinding, ...]:
    """Every rule that the cluster has, of every principal."""
    everything = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    client = admin(settings)  # kept: an answer that is still out dies with its client
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
