"""Topologies: what is read, how one extends another, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from data_platform_core.errors import ConfigurationError
from data_platform_core.paths import STATE_DIR, TOPOLOGY_DIR
from data_platform_core.topology import load_topology

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a copy of the real `local.yaml` to break."""
    (tmp_path / "local.yaml").write_text((TOPOLOGY_DIR / "local.yaml").read_text())
    return tmp_path


def spoil(folder: Path, **changes: Any) -> None:
    raw = yaml.safe_load((folder / "local.yaml").read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = raw
        for parent in parents:
            node = node[parent]
        node[last] = value
    (folder / "local.yaml").write_text(yaml.safe_dump(raw))


def refusal(folder: Path, environment: str = "local") -> str:
    with pytest.raises(ConfigurationError) as refused:
        load_topology(environment, folder)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_an_environment_is_named_by_its_file(folder: Path) -> None:
    (folder / "other.yaml").write_text("extends: local\n")
    other = load_topology("other", folder)
    assert (other.environment, other.data_path) == ("other", STATE_DIR / "other")
    spoil(folder, environment="local")
    assert "environment is the file's name; remove the key" in refusal(folder)


def test_a_file_can_not_say_where_its_environment_is_written(folder: Path) -> None:
    spoil(folder, data_path="/big/disk")
    assert "data_path is below the state folder, CRM_STATE; remove the key" in refusal(folder)


def test_local_has_three_brokers_on_loopback_and_can_lose_one() -> None:
    kafka = load_topology("local").kafka
    assert len({broker.host for broker in kafka.brokers}) == 3
    assert all(broker.host.startswith("127.") for broker in kafka.brokers)
    assert (kafka.replication_factor, kafka.min_insync_replicas) == (3, 2)


def test_the_test_stack_shares_no_port_and_no_folder_with_the_local_one() -> None:
    local, test = load_topology("local"), load_topology("test")

    def addresses(node: Any, host: str = "") -> set[str]:
        if isinstance(node, dict):
            here = node.get("host", host)
            ports = {f"{here}:{value}" for key, value in node.items() if key == "port" or key.endswith("_port")}
            return ports.union(*(addresses(value, here) for value in node.values()))
        if isinstance(node, list | tuple):
            return set().union(*(addresses(item, host) for item in node))
        return set()

    assert len(addresses(local.model_dump())) >= 10
    assert not addresses(local.model_dump()) & addresses(test.model_dump())
    assert local.data_path != test.data_path
    assert test.object_store.buckets == local.object_store.buckets


def test_an_unknown_environment_is_answered_with_the_known_ones(folder: Path) -> None:
    assert "known environments: local" in refusal(folder, "moon")


def test_an_unknown_key_is_named(folder: Path) -> None:
    spoil(folder, kafka__brokres=[])
    assert "kafka.brokres" in refusal(folder)


def test_a_missing_key_is_named(folder: Path) -> None:
    raw = yaml.safe_load((folder / "local.yaml").read_text())
    del raw["postgres"]["database"]
    (folder / "local.yaml").write_text(yaml.safe_dump(raw))
    assert "postgres.database" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kafka__replication_factor": 4}, "needs as many brokers"),
        ({"kafka__min_insync_replicas": 4, "kafka__replication_factor": 3}, "min_insync_replicas 4 is above"),
        ({"postgres__port": 70_000}, "postgres.port"),
        ({"port_offset": "many"}, "port_offset is 'many'"),
    ],
)
def test_an_impossible_value_is_reported(folder: Path, changes: dict[str, Any], told: str) -> None:
    spoil(folder, **changes)
    assert told in refusal(folder)


def test_two_brokers_with_one_id_are_refused(folder: Path) -> None:
    raw = yaml.safe_load((folder / "local.yaml").read_text())
    raw["kafka"]["brokers"][1]["id"] = raw["kafka"]["brokers"][0]["id"]
    (folder / "local.yaml").write_text(yaml.safe_dump(raw))
    assert "same id" in refusal(folder)


@pytest.mark.parametrize("text", ["a: [", "- a list\n"])
def test_a_file_that_is_no_mapping_is_refused(folder: Path, text: str) -> None:
    (folder / "local.yaml").write_text(text)
    assert str(folder / "local.yaml") in refusal(folder)


def test_a_service_listens_on_its_host_unless_the_file_has_a_bind(folder: Path) -> None:
    assert load_topology("local", folder).object_store.listen == load_topology("local", folder).object_store.address
    spoil(folder, object_store__host="store.example.org", object_store__bind="0.0.0.0")
    store = load_topology("local", folder).object_store
    assert (store.address, store.listen) == ("store.example.org:19000", "0.0.0.0:19000")
    assert store.url == "http://store.example.org:19000"
    assert store.at(store.console_port).listen == "0.0.0.0:19001"


def test_a_broker_listens_on_all_its_ports_at_one_address(folder: Path) -> None:
    raw = yaml.safe_load((folder / "local.yaml").read_text())
    raw["kafka"]["brokers"][0]["bind"] = "0.0.0.0"
    (folder / "local.yaml").write_text(yaml.safe_dump(raw))
    broker = load_topology("local", folder).kafka.brokers[0]
    assert {broker.bind, broker.metrics.bind, broker.controller.bind} == {"0.0.0.0"}
    assert {broker.host, broker.metrics.host, broker.controller.host} == {"127.0.0.11"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_clients_can_not_use_is_refused_with_its_key(folder: Path, host: str) -> None:
    spoil(folder, metrics__streaming__host=host)
    assert f"metrics.streaming.host: Value error, {host} is no address to connect to" in refusal(folder)
    assert f"`bind: {host}`" in refusal(folder)


def test_spark_can_not_listen_elsewhere(folder: Path) -> None:
    spoil(folder, spark__bind="0.0.0.0")
    assert "spark: Value error, bind is 0.0.0.0" in refusal(folder)


def test_pods_reach_each_service_of_loopback_at_one_address_and_a_port_of_its_own(folder: Path) -> None:
    spoil(folder, pods={"host": "10.9.0.1", "kafka_port": 29000})
    topology = load_topology("local", folder)
    seen = topology.seen_by_pods()
    assert seen.kafka.bootstrap_servers == "10.9.0.1:29000,10.9.0.1:29001,10.9.0.1:29002"
    assert seen.object_store.url == f"http://10.9.0.1:{topology.object_store.port}"
    assert (seen.postgres.host, seen.schema_registry.host) == ("10.9.0.1", "10.9.0.1")
    for endpoint in topology.relayed.values():
        assert (endpoint.host, endpoint.is_here) == ("10.9.0.1", True)
    assert len({endpoint.port for endpoint in topology.relayed.values()}) == len(topology.relayed)
    assert topology.relayed["kafka-2"].listen == f"{topology.kafka.brokers[1].host}:29001"


def test_without_a_cluster_on_this_machine_pods_see_what_everybody_sees() -> None:
    topology = load_topology("home")
    assert topology.seen_by_pods() is topology
    assert topology.relayed == {}


def test_pods_get_an_address_and_no_name(folder: Path) -> None:
    spoil(folder, pods={"host": "host.internal", "kafka_port": 29000})
    assert "pods.host" in refusal(folder)
    assert "not an IPv4 address" in refusal(folder)
