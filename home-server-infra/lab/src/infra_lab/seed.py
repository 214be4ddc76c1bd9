"""The cloud-init drive as Proxmox VE renders it from a VM's configuration: three NoCloud files."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from data_platform_core.errors import ConfigurationError

_MAC = re.compile(r"^\w+=([0-9A-Fa-f:]{17})")


@dataclass(frozen=True)
class Seed:
    """Boot data of a host: its name, its first network interface, and the three files by name."""

    name: str
    address: str
    prefix_length: int
    mac: str
    files: Mapping[str, str]


def options(value: str) -> dict[str, str]:
    """Proxmox's options `a=1,b=2`; parts without `=` are skipped."""
    return dict(part.split("=", 1) for part in value.split(",") if "=" in part)


def render_seed(config: Mapping[str, str], default_user: str) -> Seed:
    """Raises ConfigurationError when the configuration lacks a static address or a network card.

    A real host would then boot without a network, and the playbook would wait for it until its timeout.
    """
    name = config["name"]
    card = _MAC.match(config.get("net0", ""))
    if card is None:
        raise ConfigurationError(f"VM {name} has no net0 with a MAC address")
    mac = card[1].lower()
    network = options(config.get("ipconfig0", ""))
    try:
        interface = ipaddress.IPv4Interface(network["ip"])
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"VM {name}: ipconfig0 has no static address ({config.get('ipconfig0')})") from error
    user_data = _user_data(name, config, default_user)
    network_config = _network_config(mac, interface, network.get("gw"), config)
    # As in Proxmox, a changed configuration is a new instance: cloud-init applies it at the next boot.
    instance = hashlib.sha1((user_data + network_config).encode(), usedforsecurity=False).hexdigest()
    return Seed(
        name,
        str(interface.ip),
        interface.network.prefixlen,
        mac,
        {
            "user-data": user_data,
            "network-config": network_config,
            "meta-data": f"instance-id: {instance}\nlocal-hostname: {name}\n",
        },
    )


def _user_data(name: str, config: Mapping[str, str], default_user: str) -> str:
    domain = config.get("searchdomain", "")
    lines = ["#cloud-config", f"hostname: {name}", "manage_etc_hosts: true"]
    lines += [f"fqdn: {name}.{domain}" if domain else f"fqdn: {name}", f"user: {config.get('ciuser', default_user)}"]
    if password := config.get("cipassword"):
        lines += [f"password: {password}"]
    keys = unquote(config.get("sshkeys", "")).strip().splitlines()
    if keys:
        lines += ["ssh_authorized_keys:", *(f"  - {key}" for key in keys)]
    lines += ["chpasswd:", "  expire: False", "users:", "  - default"]
    # Proxmox upgrades by default; `ciupgrade: 0` keeps a boot short and its packages the image's.
    lines += [f"package_upgrade: {'true' if config.get('ciupgrade', '0') == '1' else 'false'}"]
    return "\n".join(lines) + "\n"


def _network_config(
    mac: str, interface: ipaddress.IPv4Interface, gateway: str | None, config: Mapping[str, str]
) -> str:
    lines = ["version: 1", "config:", "    - type: physical", "      name: eth0", f"      mac_address: '{mac}'"]
    lines += ["      subnets:", "      - type: static", f"        address: '{interface.ip}'"]
    lines += [f"        netmask: '{interface.netmask}'"]
    if gateway:
        lines += [f"        gateway: '{gateway}'"]
    if servers := config.get("nameserver", "").split():
        lines += ["    - type: nameserver", "      address:", *(f"      - '{server}'" for server in servers)]
    return "\n".join(lines) + "\n"
