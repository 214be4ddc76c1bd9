"""Truth 2, the machines: hosts, their virtual machines, and the Proxmox server that runs them.

Ansible builds a topology with `hosts`. Its services refer to hosts by name. `resolve_hosts` inserts the addresses, so
that each address is written once.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from data_platform_core.errors import ConfigurationError
from data_platform_core.topology.endpoints import Frozen

#: Proxmox reserves ids below 100.
FIRST_VM_ID = 100


def is_ipv4(text: str) -> bool:
    """Whether it is an address, and no name."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _require_ipv4(text: str) -> str:
    if not is_ipv4(text):
        raise ValueError(f"{text!r} is not an IPv4 address")
    return text


#: An address, and no name.
IPv4 = Annotated[str, AfterValidator(_require_ipv4)]


class Role(StrEnum):
    """The role of a host; also the name of its group in the inventory."""

    KAFKA = "kafka"
    SCHEMA_REGISTRY = "schema_registry"
    KUBERNETES_CONTROL = "kubernetes_control"
    KUBERNETES_WORKER = "kubernetes_worker"
    POSTGRES_PRIMARY = "postgres_primary"
    POSTGRES_REPLICA = "postgres_replica"
    REDIS = "redis"
    OBJECT_STORE = "object_store"
    MONITORING = "monitoring"


class VirtualMachine(Frozen):
    """Size of a VM and the Proxmox node that runs it. `id` is unique in the whole Proxmox cluster."""

    id: int = Field(ge=FIRST_VM_ID, le=999_999_999)
    node: str = Field(min_length=1)
    cores: int = Field(ge=1)
    memory_mb: int = Field(ge=512)
    disk_gb: int = Field(ge=4)


class Host(Frozen):
    """Brokers with the same `rack` fail together. Kafka does not place all replicas of a partition in one rack."""

    address: IPv4
    roles: tuple[Role, ...] = Field(min_length=1)
    vm: VirtualMachine
    rack: str | None = None


class Template(Frozen):
    """The cloud-init template from which VMs are cloned, and the image from which it is created."""

    vmid: int = Field(ge=FIRST_VM_ID, le=999_999_999)
    name: str
    node: str
    image: str


class Proxmox(Frozen):
    """The Proxmox API and common VM settings. `storage` has the disks; VMs have static addresses behind `gateway`."""

    api_host: str
    api_port: int = Field(default=8006, ge=1, le=65535)
    storage: str
    bridge: str
    gateway: str
    prefix_length: int = Field(ge=8, le=30)
    nameserver: str
    template: Template

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The network of the VMs."""
        return ipaddress.IPv4Network(f"{self.gateway}/{self.prefix_length}", strict=False)

    @model_validator(mode="after")
    def _gateway_is_an_address(self) -> Proxmox:
        if not is_ipv4(self.gateway):
            raise ValueError(f"gateway {self.gateway!r} is not an IPv4 address")
        return self


def check_hosts(hosts: Mapping[str, Host], proxmox: Proxmox | None) -> None:
    """Raises ValueError naming the hosts when two share an address or a VM id, or one is outside the network."""
    if not hosts:
        return
    if proxmox is None:
        raise ValueError("hosts are virtual machines: add the section proxmox")
    _refuse_shared("address", {name: host.address for name, host in hosts.items()})
    _refuse_shared("vm.id", {name: host.vm.id for name, host in hosts.items()})
    for name, host in hosts.items():
        if host.vm.id == proxmox.template.vmid:
            raise ValueError(f"hosts.{name}.vm.id {host.vm.id} is the template's")
        if host.address == proxmox.gateway:
            raise ValueError(f"hosts.{name}.address {host.address} is the gateway's")
        if ipaddress.IPv4Address(host.address) not in proxmox.network:
            raise ValueError(f"hosts.{name}.address {host.address} is outside the network {proxmox.network}")


def _refuse_shared(key: str, values: Mapping[str, object]) -> None:
    for value, count in Counter(values.values()).items():
        if count > 1:
            sharing = ", ".join(name for name, mine in values.items() if mine == value)
            raise ValueError(f"hosts {sharing} have the same {key} {value}")


def with_role(hosts: Mapping[str, Host], role: Role) -> dict[str, Host]:
    """The hosts with `role`, in the topology's order."""
    return {name: host for name, host in hosts.items() if role in host.roles}


def resolve_hosts(raw: dict[str, Any], where: str) -> dict[str, Any]:
    """`raw` with each `host:` or `bind: <name of a host>` replaced by its address; unchanged without `hosts`.

    Addresses and names with a dot are unchanged. Raises ConfigurationError naming the file and the key of an unknown
    name.
    """
    hosts = raw.get("hosts")
    if not isinstance(hosts, dict) or not hosts:
        return raw
    addresses = {str(name): host.get("address") for name, host in hosts.items() if isinstance(host, dict)}
    return {
        key: section if key == "hosts" else _resolve(section, addresses, (key,), where) for key, section in raw.items()
    }


def _resolve(node: Any, addresses: Mapping[str, Any], path: tuple[str, ...], where: str) -> Any:
    if isinstance(node, dict):
        return {
            key: _address_of(value, addresses, (*path, key), where)
            if key in ("host", "bind") and isinstance(value, str)
            else _resolve(value, addresses, (*path, str(key)), where)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_resolve(item, addresses, (*path, str(number)), where) for number, item in enumerate(node)]
    return node


def _address_of(name: str, addresses: Mapping[str, Any], path: Iterable[str], where: str) -> Any:
    if name in addresses:
        return addresses[name]
    if "." in name:
        return name
    raise ConfigurationError(
        f"topology {where}: {'.'.join(path)}: there is no host {name!r}; hosts: {', '.join(addresses)}"
    )
