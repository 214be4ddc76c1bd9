"""The generated inventory: groups by role, facts of the topology, rules of the contracts, and drift."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from data_platform_core.access.kafka import Pattern, Resource, Rule, as_inventory, super_users, wanted_rules
from data_platform_core.access.matrix import Operation, load_matrix
from data_platform_core.contracts import load_contracts
from data_platform_core.errors import GeneratedFileError
from data_platform_core.generated import generate
from data_platform_core.generated.inventory import inventories, inventory_file, inventory_text
from data_platform_core.naming import names
from data_platform_core.topology import load_topology
from data_platform_core.topology.hosts import Role

pytestmark = pytest.mark.unit


def inventory(environment: str) -> dict[str, Any]:
    tree = yaml.safe_load(inventory_text(load_topology(environment), load_contracts().values()))
    found: dict[str, Any] = tree["all"]
    return found


def test_only_topologies_with_hosts_have_an_inventory() -> None:
    found = inventories(load_contracts().values())
    assert set(found) == {inventory_file("home"), inventory_file("lab")}


@pytest.mark.parametrize("environment", ["home", "lab"])
def test_groups_are_the_roles_and_hold_the_topology_s_hosts(environment: str) -> None:
    topology, groups = load_topology(environment), inventory(environment)["children"]
    assert set(groups) == {"proxmox_vms", *Role}
    assert list(groups["proxmox_vms"]["hosts"]) == list(topology.hosts)
    for name, host in topology.hosts.items():
        assert {role for role in Role if name in groups[role]["hosts"]} == set(host.roles)


def test_a_broker_has_its_id_its_rack_and_its_vm() -> None:
    assert inventory("lab")["children"]["proxmox_vms"]["hosts"]["kafka-2"] == {
        "ansible_host": "10.77.0.12",
        "proxmox_vm_id": 102,
        "proxmox_vm_node": "pve",
        "proxmox_vm_cores": 2,
        "proxmox_vm_memory_mb": 1024,
        "proxmox_vm_disk_gb": 20,
        "kafka_broker_id": 2,
        "kafka_broker_rack": "rack-2",
    }


def test_a_host_that_is_no_broker_has_no_broker_id() -> None:
    hosts = inventory("home")["children"]["proxmox_vms"]["hosts"]
    assert "kafka_broker_id" not in hosts["postgres-1"]


def test_facts_are_the_topology_s() -> None:
    facts, kafka = inventory("home")["vars"], load_topology("home").kafka
    assert facts["kafka_bootstrap_servers"] == kafka.bootstrap_servers
    assert facts["kafka_broker_cluster_id"] == kafka.cluster_id
    assert facts["kafka_broker_security_protocol"] == "SASL_SSL"
    assert facts["proxmox_vm_template_vmid"] == 9000


def test_a_role_gets_the_address_to_listen_on_only_where_it_is_not_the_hosts_own() -> None:
    topology = load_topology("home")
    assert "_listen_address" not in inventory_text(topology, load_contracts().values())
    brokers = tuple(broker.model_copy(update={"bind": "0.0.0.0"}) for broker in topology.kafka.brokers)
    bound = topology.model_copy(
        update={
            "kafka": topology.kafka.model_copy(update={"brokers": brokers}),
            "monitoring": topology.monitoring.model_copy(
                update={"alertmanager": topology.monitoring.alertmanager.model_copy(update={"bind": "0.0.0.0"})}
            ),
            "postgres": topology.postgres.model_copy(update={"bind": "0.0.0.0"}),
        }
    )
    tree = yaml.safe_load(inventory_text(bound, load_contracts().values()))["all"]
    assert tree["vars"]["postgresql_listen_address"] == "0.0.0.0"
    assert tree["vars"]["alertmanager_listen_address"] == "0.0.0.0"
    assert tree["vars"]["postgresql_host"] == topology.postgres.host
    assert tree["children"]["proxmox_vms"]["hosts"]["kafka-1"]["kafka_broker_listen_address"] == "0.0.0.0"


def test_prometheus_uses_the_topologys_retention_and_intervals() -> None:
    facts, monitoring = inventory("home")["vars"], load_topology("home").monitoring
    assert facts["monitoring_agents_retention_days"] == monitoring.retention.days
    assert facts["monitoring_agents_retention_mb"] == monitoring.retention.size_mb
    assert facts["monitoring_agents_scrape_interval"] == f"{round(monitoring.scrape.servers_seconds * 1000)}ms"


def test_no_secret_is_in_an_inventory() -> None:
    for text in inventories(load_contracts().values()).values():
        assert not [word for word in ("password", "secret", "token") if word in text]


def test_drift_of_an_inventory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    path = inventory_file("lab")
    stale = dict(generate.generated_files()) | {path: "all: {}\n"}
    monkeypatch.setattr(generate, "generated_files", lambda: stale)
    with pytest.raises(GeneratedFileError, match=r"inventories/lab/hosts\.yml"):
        generate.check()


def rules_of(principal: str) -> set[Rule]:
    return {rule for rule in wanted_rules(load_matrix(), load_contracts().values()) if rule.principal == principal}


def test_each_principal_writes_what_it_must_and_nothing_else() -> None:
    entities = load_contracts()
    writes = {
        principal: {rule.name for rule in rules_of(principal) if rule.operation is Operation.WRITE}
        for principal in ("generator", "streaming", "accounting", "monitoring")
    }
    assert writes == {
        "generator": {names(entity).topic for entity in entities},
        "streaming": {names(entity).dlq_topic for entity in entities},
        "accounting": set(),
        "monitoring": set(),
    }


def test_streaming_commits_to_a_group_per_query() -> None:
    groups = {rule.name: rule.pattern for rule in rules_of("streaming") if rule.resource is Resource.GROUP}
    assert {names(entity).query for entity in load_contracts()} <= set(groups)
    assert groups["spark-kafka-"] is Pattern.PREFIXED


def test_the_monitoring_reads_no_record() -> None:
    assert {rule.operation for rule in rules_of("monitoring")} == {Operation.DESCRIBE}


def test_super_users_have_no_rules() -> None:
    assert super_users(load_matrix()) == ("broker", "admin")
    assert not rules_of("admin") | rules_of("broker")


def test_operations_of_one_resource_are_one_entry() -> None:
    rules = [
        Rule("p", Resource.TOPIC, "t", Operation.READ),
        Rule("p", Resource.TOPIC, "t", Operation.WRITE),
        Rule("q", Resource.TOPIC, "t", Operation.READ),
    ]
    assert as_inventory(rules) == {
        "p": [{"resource": "topic", "name": "t", "pattern": "literal", "operations": ["read", "write"]}],
        "q": [{"resource": "topic", "name": "t", "pattern": "literal", "operations": ["read"]}],
    }
