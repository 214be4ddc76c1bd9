"""Ansible's inventory of a topology with hosts: `ansible/inventories/<environment>/hosts.yml`, GENERATED.

Each group has the name of a host role. A variable's prefix is the Ansible role that reads it, and the role's argument
specs document it. Variables of several roles have no prefix.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from data_platform_core.access import kafka as kafka_access
from data_platform_core.access import postgres as postgres_access
from data_platform_core.access.matrix import Matrix, load_matrix
from data_platform_core.access.names import MONITORING, access_key, role
from data_platform_core.access.object_store import policy
from data_platform_core.contracts import Contract
from data_platform_core.jobs import SETUP, System, job
from data_platform_core.paths import REPOSITORY_ROOT, TOPOLOGY_DIR
from data_platform_core.topology import Endpoint, Kafka, Mail, Topology, load_topology
from data_platform_core.topology.hosts import Host, Proxmox, Role, with_role
from data_platform_core.yaml_files import PlainDumper

INVENTORIES_DIR: Path = REPOSITORY_ROOT / "ansible" / "inventories"

#: Group of every host that is a virtual machine. Currently these are all hosts.
ALL_VMS = "proxmox_vms"
_LINE_WIDTH = 88


def inventory_file(environment: str) -> Path:
    """The path of the inventory of `environment`."""
    return INVENTORIES_DIR / environment / "hosts.yml"


def inventories(contracts: Iterable[Contract], folder: Path = TOPOLOGY_DIR) -> dict[Path, str]:
    """The inventory text of every topology with hosts, by file."""
    contracts = tuple(contracts)
    topologies = (load_topology(path.stem, folder) for path in sorted(folder.glob("*.yaml")))
    return {
        inventory_file(topology.environment): inventory_text(topology, contracts)
        for topology in topologies
        if topology.hosts
    }


def inventory_text(topology: Topology, contracts: Iterable[Contract]) -> str:
    """The inventory as YAML, with a header that names its sources."""
    head = (
        f"# GENERATED from home-server-infra/topology/{topology.environment}.yaml, the contracts and the matrix of\n"
        "# accounts; change those, then `make generate`.\n"
    )
    tree = {"all": {"vars": _variables(topology, contracts), "children": _groups(topology)}}
    return head + yaml.dump(tree, Dumper=PlainDumper, sort_keys=False, default_flow_style=False, width=_LINE_WIDTH)


def _groups(topology: Topology) -> dict[str, Any]:
    """Every role's group. A group without hosts is empty, so that a play on it is skipped instead of failing."""
    hosts = {name: _host_variables(topology, host) for name, host in topology.hosts.items()}
    members: dict[str, Any] = {
        role.value: {"hosts": {name: {} for name in with_role(topology.hosts, role)}} for role in Role
    }
    return {ALL_VMS: {"hosts": hosts}, **members}


def _host_variables(topology: Topology, host: Host) -> dict[str, Any]:
    vm = host.vm
    variables: dict[str, Any] = {
        "ansible_host": host.address,
        "proxmox_vm_id": vm.id,
        "proxmox_vm_node": vm.node,
        "proxmox_vm_cores": vm.cores,
        "proxmox_vm_memory_mb": vm.memory_mb,
        "proxmox_vm_disk_gb": vm.disk_gb,
    }
    broker = next((broker for broker in topology.kafka.brokers if broker.host == host.address), None)
    if broker is not None:
        variables["kafka_broker_id"] = broker.id
        variables["kafka_broker_rack"] = host.rack or ""
        variables |= _bound(kafka_broker=broker)
    return variables


def _variables(topology: Topology, contracts: Iterable[Contract]) -> dict[str, Any]:
    return {
        "platform_environment": topology.environment,
        **(_proxmox(topology.proxmox) if topology.proxmox else {}),
        **_kafka(topology.kafka),
        **_services(topology),
        **_accounts(topology, load_matrix(), contracts),
        "platform_kafka_jobs": _kafka_jobs(),
    }


def _kafka_jobs() -> list[dict[str, Any]]:
    """The set-up of empty brokers, in order: subcommands of `crm` to plan, apply and verify."""
    jobs = (job(name) for name in SETUP)
    return [
        {
            "name": found.name,
            "plan": list(found.plan[1:]),
            "apply": list(found.command[1:]),
            "verify": list(found.verify[1:]),
        }
        for found in jobs
        if found.needs == {System.KAFKA}
    ]


def _accounts(topology: Topology, matrix: Matrix, contracts: Iterable[Contract]) -> dict[str, Any]:
    """The access rules as data, so that the roles need no list of services."""
    buckets = topology.object_store.buckets
    return {
        "platform_kafka_clients": list(matrix.kafka),
        "postgresql_owner": role(postgres_access.owner(matrix)),
        "postgresql_roles": list(postgres_access.roles(matrix)),
        "postgresql_monitoring_roles": list(postgres_access.statistics_roles(matrix)),
        "monitoring_agents_postgres_role": role(MONITORING),
        "minio_accounts": {
            service: {"access_key": access_key(service), "policy": policy(access, buckets)}
            for service, access in matrix.object_store.items()
        },
        "kafka_broker_super_users": list(kafka_access.super_users(matrix)),
        "kafka_acls": dict(kafka_access.as_inventory(kafka_access.wanted_rules(matrix, contracts))),
    }


def _proxmox(proxmox: Proxmox) -> dict[str, Any]:
    settings = {f"proxmox_vm_{key}": value for key, value in proxmox.model_dump(exclude={"template"}).items()}
    return settings | {f"proxmox_vm_template_{key}": value for key, value in proxmox.template.model_dump().items()}


def _mail(mail: Mail | None) -> dict[str, Any]:
    return {} if mail is None else {"address": mail.address, **mail.model_dump(exclude={"host", "port"})}


def _kafka(kafka: Kafka) -> dict[str, Any]:
    any_broker = kafka.brokers[0]  # the topology refuses hosts whose brokers differ in their ports
    return {
        "kafka_bootstrap_servers": kafka.bootstrap_servers,
        "kafka_broker_cluster_id": kafka.cluster_id,
        "kafka_broker_quorum": kafka.quorum,
        "kafka_broker_port": any_broker.port,
        "kafka_broker_controller_port": any_broker.controller_port,
        "kafka_broker_metrics_port": any_broker.metrics_port,
        "kafka_broker_replication_factor": kafka.replication_factor,
        "kafka_broker_min_insync_replicas": kafka.min_insync_replicas,
        "kafka_broker_heap_mb": kafka.heap_mb,
        "kafka_broker_security_protocol": kafka.security.protocol if kafka.security else "PLAINTEXT",
        "kafka_broker_sasl_mechanism": kafka.security.mechanism if kafka.security else "",
    }


def _bound(**endpoints: Endpoint) -> dict[str, Any]:
    """The listen address of a role's service, if it is not the host's own, which is the roles' default."""
    return {f"{role}_listen_address": each.bind for role, each in endpoints.items() if each.binds_elsewhere}


def _services(topology: Topology) -> dict[str, Any]:
    registry, postgres, store = topology.schema_registry, topology.postgres, topology.object_store
    monitoring = topology.monitoring
    return {
        "schema_registry_host": registry.host,
        "schema_registry_port": registry.port,
        "schema_registry_path": registry.path,
        "schema_registry_heap_mb": registry.heap_mb,
        "postgresql_host": postgres.host,
        "postgresql_port": postgres.port,
        "postgresql_database": postgres.database,
        "minio_host": store.host,
        "minio_port": store.port,
        "minio_console_port": store.console_port,
        "minio_region": store.region,
        "minio_buckets": [store.buckets.lake, store.buckets.ledger],
        **_bound(
            schema_registry=registry,
            postgresql=postgres,
            minio=store,
            monitoring_agents=monitoring.prometheus,
            alertmanager=monitoring.alertmanager,
        ),
        **({"redis_cluster_port": topology.redis.port} if topology.redis else {}),
        "monitoring_prometheus_host": monitoring.prometheus.host,
        "monitoring_prometheus_port": monitoring.prometheus.port,
        "monitoring_alertmanager_host": monitoring.alertmanager.host,
        "monitoring_alertmanager_port": monitoring.alertmanager.port,
        "alertmanager_sink_url": monitoring.alert_sink.url,
        "alertmanager_sink_smtp": f"{monitoring.alert_sink.host}:{monitoring.alert_sink.smtp_port}",
        "alertmanager_mail": _mail(monitoring.mail),
        "monitoring_agents_scrape_interval": f"{round(monitoring.scrape.servers_seconds * 1000)}ms",
        "monitoring_agents_retention_days": monitoring.retention.days,
        "monitoring_agents_retention_mb": monitoring.retention.size_mb,
        "monitoring_agents_node_exporter_port": monitoring.node_exporter.port,
        "monitoring_agents_postgres_exporter_port": monitoring.postgres_exporter.port,
    }
