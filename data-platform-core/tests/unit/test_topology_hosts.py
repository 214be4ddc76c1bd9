"""Hosts and Proxmox in a topology: names become addresses, and what can't be built is refused, naming the hosts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_platform_core.errors import ConfigurationError
from data_platform_core.paths import TOPOLOGY_DIR
from data_platform_core.topology import load_topology
from data_platform_core.topology.hosts import Role, with_role

pytestmark = pytest.mark.unit

Spoil = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with copies of the real topologies of hosts to break."""
    for name in ("home.yaml", "lab.yaml"):
        (tmp_path / name).write_text((TOPOLOGY_DIR / name).read_text())
    return tmp_path


def refusal(folder: Path, spoil: Spoil, environment: str = "home") -> str:
    path = folder / f"{environment}.yaml"
    raw = yaml.safe_load(path.read_text())
    spoil(raw)
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigurationError) as refused:
        load_topology(environment, folder)
    message = str(refused.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("environment", ["home", "lab"])
def test_a_host_s_name_becomes_its_address(environment: str) -> None:
    topology = load_topology(environment)
    brokers = with_role(topology.hosts, Role.KAFKA)
    assert [broker.host for broker in topology.kafka.brokers] == [host.address for host in brokers.values()]
    assert len(brokers) == 3
    assert topology.schema_registry.url.startswith(f"http://{topology.schema_registry.host}:")
    assert topology.schema_registry.host in {host.address for host in topology.hosts.values()}


def test_the_lab_is_home_in_small_on_addresses_of_its_own() -> None:
    home, lab = load_topology("home"), load_topology("lab")
    assert set(home.hosts) - set(lab.hosts) == {"kubernetes-control-1", "kubernetes-worker-1", "kubernetes-worker-2"}
    assert all(host.address.startswith("10.77.0.") for host in lab.hosts.values())
    assert lab.kafka.security == home.kafka.security
    assert lab.kafka.cluster_id != home.kafka.cluster_id
    assert lab.object_store.is_loopback
    assert lab.postgres.is_loopback
    assert lab.hosts["kafka-2"].rack == home.hosts["kafka-2"].rack


def test_a_topology_without_hosts_keeps_its_names(tmp_path: Path) -> None:
    raw = yaml.safe_load((TOPOLOGY_DIR / "local.yaml").read_text())
    raw["postgres"]["host"] = "localhost"
    (tmp_path / "local.yaml").write_text(yaml.safe_dump(raw))
    assert load_topology("local", tmp_path).postgres.host == "localhost"


def test_an_unknown_host_is_answered_with_the_known_ones(folder: Path) -> None:
    message = refusal(folder, lambda raw: raw["kafka"]["brokers"][1].update(host="kafka-9"))
    assert "kafka.brokers.1.host: there is no host 'kafka-9'" in message
    assert "kafka-2" in message


def test_a_full_name_needs_no_host(folder: Path) -> None:
    raw = yaml.safe_load((folder / "home.yaml").read_text())
    raw["monitoring"]["prometheus"]["host"] = "prometheus.example.org"
    (folder / "home.yaml").write_text(yaml.safe_dump(raw))
    assert load_topology("home", folder).monitoring.prometheus.host == "prometheus.example.org"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda raw: raw["hosts"]["redis-2"].update(address="192.168.10.41"),
            "redis-1, redis-2 have the same address 192.168.10.41",
        ),
        (lambda raw: raw["hosts"]["kafka-3"]["vm"].update(id=111), "kafka-1, kafka-3 have the same vm.id 111"),
        (lambda raw: raw["hosts"]["kafka-3"]["vm"].update(id=9000), "hosts.kafka-3.vm.id 9000 is the template's"),
        (lambda raw: raw["hosts"]["redis-1"].update(address="192.168.10.1"), "hosts.redis-1.address"),
        (lambda raw: raw["hosts"]["redis-1"].update(address="192.168.11.7"), "outside the network 192.168.10.0/24"),
        (lambda raw: raw["hosts"]["redis-1"].update(address="redis"), "hosts.redis-1.address"),
        (lambda raw: raw["hosts"]["redis-1"].update(roles=["cache"]), "hosts.redis-1.roles.0"),
        (lambda raw: raw["hosts"]["redis-1"].update(roles=["kafka"]), "hosts.redis-1: role kafka"),
        (lambda raw: raw["hosts"]["kafka-2"].update(roles=["redis"]), "hosts.kafka-2: role kafka"),
        (
            lambda raw: raw["kafka"].update(brokers=raw["kafka"]["brokers"][:2], replication_factor=2),
            "hosts.kafka-3: role kafka",
        ),
        (lambda raw: raw["postgres"].update(host="postgres-2"), "none of the hosts with role postgres_primary"),
        (lambda raw: raw["kafka"]["brokers"][0].update(port=9099), "must have the same ports"),
        (lambda raw: raw["kafka"].update(quorum="raft"), "kafka.quorum"),
        (lambda raw: raw["kafka"]["security"].update(mechanism="PLAIN"), "kafka.security.mechanism"),
        (lambda raw: raw.pop("proxmox"), "add the section proxmox"),
        (lambda raw: raw["proxmox"].update(gateway="gw"), "gateway 'gw' is not an IPv4 address"),
    ],
)
def test_what_can_t_be_built_is_reported(folder: Path, spoil: Spoil, told: str) -> None:
    assert told in refusal(folder, spoil)


def test_three_replicas_need_three_brokers(folder: Path) -> None:
    def two_brokers(raw: dict[str, Any]) -> None:
        raw["kafka"]["brokers"].pop()
        raw["hosts"].pop("kafka-3")

    assert "replication_factor 3 needs as many brokers, topology has 2" in refusal(folder, two_brokers)


def test_a_cluster_of_spark_is_asked_for_where_there_is_one() -> None:
    assert load_topology("local").spark_cluster.workers
    with pytest.raises(ConfigurationError, match="topology home has no section spark"):
        _ = load_topology("home").spark_cluster


def test_the_agents_of_one_role_listen_alike(folder: Path) -> None:
    raw = yaml.safe_load((folder / "home.yaml").read_text())
    raw["monitoring"]["prometheus"]["bind"] = "0.0.0.0"
    (folder / "home.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigurationError, match="prometheus and its exporters must have the same bind"):
        load_topology("home", folder)
