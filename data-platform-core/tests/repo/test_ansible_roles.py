"""Ansible's roles: a role does what it documents, and no secret is in clear text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_platform_core.paths import REPOSITORY_ROOT

pytestmark = pytest.mark.unit

ANSIBLE = REPOSITORY_ROOT / "ansible"
ROLES = sorted(path.parent.parent for path in ANSIBLE.glob("roles/*/tasks/main.yml"))

each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def read(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found or {}


def options(role: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    return found


def differences(defaults: dict[str, Any], specs: dict[str, dict[str, Any]]) -> list[str]:
    """Where defaults and argument specs of a role differ."""
    optional = {name: spec for name, spec in specs.items() if not spec.get("required")}
    return [
        *(f"{name} has a default and no spec" for name in defaults.keys() - specs.keys()),
        *(f"{name} is required and has a default" for name in defaults.keys() & (specs.keys() - optional.keys())),
        *(f"{name} is optional and has no default" for name in optional.keys() - defaults.keys()),
        *(
            f"{name}: default is {defaults[name]!r}, spec says {optional[name].get('default')!r}"
            for name in sorted(optional.keys() & defaults.keys())
            if "default" not in optional[name] or optional[name]["default"] != defaults[name]
        ),
    ]


def test_there_are_roles() -> None:
    assert {"common", "kafka_broker", "pki"} <= {role.name for role in ROLES}


@each_role
def test_argument_specs_match_the_defaults(role: Path) -> None:
    assert differences(read(role / "defaults" / "main.yml"), options(role)) == []


@each_role
def test_every_option_is_described(role: Path) -> None:
    assert [name for name, spec in options(role).items() if not spec.get("description") or not spec.get("type")] == []


@each_role
def test_a_default_is_named_after_its_role(role: Path) -> None:
    defaults = read(role / "defaults" / "main.yml")
    assert [name for name in defaults if not name.startswith(f"{role.name}_")] == []


@each_role
def test_a_role_is_for_both_distributions(role: Path) -> None:
    platforms = {platform["name"] for platform in read(role / "meta" / "main.yml")["galaxy_info"]["platforms"]}
    assert {"Debian", "Ubuntu"} <= platforms


@pytest.mark.parametrize(
    ("defaults", "specs", "told"),
    [
        ({"a": 1}, {}, "a has a default and no spec"),
        ({"a": 1}, {"a": {"required": True}}, "a is required and has a default"),
        ({}, {"a": {"default": 1}}, "a is optional and has no default"),
        ({"a": 1}, {"a": {"default": 2}}, "a: default is 1, spec says 2"),
        ({"a": None}, {"a": {}}, "a: default is None, spec says None"),
    ],
)
def test_a_difference_is_found(defaults: dict[str, Any], specs: dict[str, dict[str, Any]], told: str) -> None:
    assert differences(defaults, specs) == [told]


def told_twice(defaults: dict[str, Any], inventory: dict[str, Any]) -> list[str]:
    """Variables that a role has a default for, though the inventory always sets them."""
    variables: set[str] = set(inventory["all"]["vars"])
    machines: dict[str, dict[str, Any]] = inventory["all"]["children"]["proxmox_vms"]["hosts"]
    return sorted(defaults.keys() & (variables | set.intersection(*(set(own) for own in machines.values()))))


@each_role
@pytest.mark.parametrize("environment", ["home", "lab"])
def test_values_of_the_topology_have_no_default_in_a_role(role: Path, environment: str) -> None:
    inventory = read(ANSIBLE / "inventories" / environment / "hosts.yml")
    assert told_twice(read(role / "defaults" / "main.yml"), inventory) == []


@each_role
def test_no_port_of_the_topology_is_in_a_default(role: Path) -> None:
    inventory = read(ANSIBLE / "inventories" / "home" / "hosts.yml")["all"]["vars"]
    ports = {value for name, value in inventory.items() if name.endswith("_port")}
    assert ports >= {9000, 8081, 6379, 9100, 9187, 5432, 9404}
    defaults = (role / "defaults" / "main.yml").read_text() if (role / "defaults" / "main.yml").is_file() else ""
    assert [port for port in ports if re.search(rf"\b{port}\b", defaults)] == []


def test_a_default_of_what_the_inventory_sets_is_found() -> None:
    inventory = {"all": {"vars": {"a_port": 1}, "children": {"proxmox_vms": {"hosts": {"x": {"b": 1}, "y": {}}}}}}
    assert told_twice({"a_port": 2, "b": 1, "c": 3}, inventory) == ["a_port"]


def test_no_role_repeats_a_version_that_the_pom_pins() -> None:
    pom = (REPOSITORY_ROOT / "home-server-infra" / "local" / "pom.xml").read_text(encoding="utf-8")
    pinned = set(re.findall(r"<[a-z0-9]+\.version>([^<]+)<", pom))
    assert pinned
    files = [
        path for role in ROLES for folder in ("defaults", "meta", "vars") for path in (role / folder).glob("*.yml")
    ]
    found = {(path.parts[-3], version) for path in files for version in pinned if version in path.read_text().split()}
    assert found == set()


def test_the_example_vault_holds_no_secret() -> None:
    def leaves(node: Any, name: str = "") -> list[tuple[str, Any]]:
        if isinstance(node, dict):
            return [leaf for key, value in node.items() for leaf in leaves(value, f"{name}.{key}")]
        return [(name, node)]

    example = read(ANSIBLE / "inventories" / "home" / "group_vars" / "all" / "vault.example.yml")
    secrets = [(name, value) for name, value in leaves(example) if re.search("password|secret", name)]
    assert secrets
    assert [name for name, value in secrets if value != "CHANGE_ME"] == []


def test_every_secret_that_is_used_is_in_the_example_vault() -> None:
    example = set(read(ANSIBLE / "inventories" / "home" / "group_vars" / "all" / "vault.example.yml"))
    used = {
        name
        for folder in ("playbooks", "roles", "inventories")
        for path in (ANSIBLE / folder).rglob("*")
        if path.suffix in {".yml", ".j2"} and path.name != "vault.yml"
        for name in re.findall(r"\bvault_[a-z_]+", path.read_text(encoding="utf-8"))
    }
    assert used
    assert used - example == set()
