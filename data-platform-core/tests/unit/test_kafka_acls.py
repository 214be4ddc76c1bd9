"""Rules on Kafka: how the cluster's rules are changed into the contracts', and which rules are not touched."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from data_platform_core.access.kafka import Pattern, Resource, Rule, wanted_rules
from data_platform_core.access.matrix import Operation, load_matrix
from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError
from data_platform_core.kafka.acls import Kind, binding, compare, plan
from data_platform_core.settings import load_settings

pytestmark = pytest.mark.unit

READ = Rule("streaming", Resource.TOPIC, "crm.orders.v1", Operation.READ)
GROUPS = Rule("streaming", Resource.GROUP, "spark-kafka-", Operation.READ, Pattern.PREFIXED)


def observed(principal: str, operation: AclOperation, permission: AclPermissionType, host: str = "*") -> AclBinding:
    return AclBinding(
        ResourceType.TOPIC, "crm.orders.v1", ResourcePatternType.LITERAL, principal, host, operation, permission
    )


def test_a_rule_as_kafkas_binding() -> None:
    assert binding(READ) == observed("User:streaming", AclOperation.READ, AclPermissionType.ALLOW)
    assert binding(GROUPS).resource_pattern_type is ResourcePatternType.PREFIXED
    assert binding(GROUPS).restype is ResourceType.GROUP


def test_every_rule_of_the_contracts_has_a_description(contracts: dict[str, Contract]) -> None:
    rules = wanted_rules(load_matrix(), contracts.values())
    assert len({binding(rule) for rule in rules}) == len(rules) > 20


def test_rules_as_required_need_no_change() -> None:
    assert compare([READ, GROUPS], [binding(GROUPS), binding(READ)]) == ()


def test_a_missing_rule_is_made() -> None:
    (change,) = compare([READ, GROUPS], [binding(READ)])
    assert (change.kind, str(change)) == (Kind.ALLOW, "User:streaming may read group spark-kafka-*")


@pytest.mark.parametrize(
    ("operation", "permission", "host", "told"),
    [
        (AclOperation.ALL, AclPermissionType.ALLOW, "*", "User:streaming may all topic crm.orders.v1"),
        (AclOperation.READ, AclPermissionType.DENY, "*", "User:streaming must not read topic crm.orders.v1"),
        (
            AclOperation.READ,
            AclPermissionType.ALLOW,
            "10.0.0.1",
            "User:streaming may read topic crm.orders.v1 from 10.0.0.1",
        ),
    ],
)
def test_a_surplus_rule_of_ours_is_revoked(
    operation: AclOperation, permission: AclPermissionType, host: str, told: str
) -> None:
    (change,) = compare([READ], [binding(READ), observed("User:streaming", operation, permission, host)])
    assert (change.kind, str(change)) == (Kind.REVOKE, told)


def test_a_rule_of_somebody_else_is_left_alone() -> None:
    foreign = observed("User:somebody", AclOperation.READ, AclPermissionType.ALLOW)
    assert compare([READ], [binding(READ), foreign]) == ()


def test_rules_are_made_before_others_are_revoked() -> None:
    surplus = observed("User:streaming", AclOperation.ALL, AclPermissionType.ALLOW)
    assert [change.kind for change in compare([READ], [surplus])] == [Kind.ALLOW, Kind.REVOKE]


def test_a_cluster_without_security_is_refused(contracts: dict[str, Contract]) -> None:
    with pytest.raises(ConfigurationError, match=r"environment local has no kafka\.security"):
        plan(load_settings("admin", "local"), contracts)
