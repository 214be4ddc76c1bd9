"""The lab's own network: a bridge in a namespace, a veth pair to this machine, a namespace per host.

The machine's end of the wire carries the gateway's address, so playbooks reach the hosts as they would reach VMs, and
nothing of the machine's own network is touched: no route, no firewall rule, no forwarding. Hosts have no way out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from data_platform_core.commands import call, succeeds
from data_platform_core.errors import ServiceError
from infra_lab.layout import PREFIX

#: Names of network interfaces end at 15 characters.
_MAX_INTERFACE = 15


@dataclass(frozen=True)
class LabNetwork:
    """`gateway` with `prefix_length`, on the machine's end of the wire; every name begins with `prefix`."""

    gateway: str
    prefix_length: int
    prefix: str = PREFIX

    @property
    def wire(self) -> str:
        """The machine's end; its name also identifies leftovers."""
        return f"{self.prefix}0"

    def namespace_of(self, host: str) -> str:
        """The namespace of a host's interface `eth0`."""
        return f"{self.prefix}-{host}"

    def exists(self) -> bool:
        return succeeds(["ip", "link", "show", self.wire])

    def up(self) -> None:
        """Repeatable. Raises ServiceError when another network of this machine has the addresses."""
        self._refuse_foreign_route()
        if self.prefix not in namespaces():
            call(["ip", "netns", "add", self.prefix])
        if not self.exists():
            call(["ip", "link", "add", self.wire, "type", "veth", "peer", "name", "up0", "netns", self.prefix])
        call(["ip", "address", "replace", f"{self.gateway}/{self.prefix_length}", "dev", self.wire])
        call(["ip", "link", "set", self.wire, "up"])
        if not succeeds(["ip", "-n", self.prefix, "link", "show", "br0"]):
            call(["ip", "-n", self.prefix, "link", "add", "br0", "type", "bridge"])
        call(["ip", "-n", self.prefix, "link", "set", "up0", "master", "br0", "up"])
        call(["ip", "-n", self.prefix, "link", "set", "br0", "up"])

    def down(self) -> None:
        """Remove the network. Repeatable; attached hosts lose their connection."""
        if self.exists():
            call(["ip", "link", "del", self.wire])
        for name in namespaces():
            if name == self.prefix or name.startswith(f"{self.prefix}-"):
                call(["ip", "netns", "del", name])

    @contextmanager
    def occupied(self, address: str, prefix_length: int) -> Iterator[None]:
        """Another machine has `address` in this context."""
        call(["ip", "-n", self.prefix, "address", "add", f"{address}/{prefix_length}", "dev", "br0"])
        try:
            yield
        finally:
            call(["ip", "-n", self.prefix, "address", "del", f"{address}/{prefix_length}", "dev", "br0"])

    def attach(self, host: str, mac: str) -> str:
        """A namespace with `eth0` on the bridge; returns its path. Leftovers of an earlier run are replaced."""
        self.detach(host)
        namespace, port = self.namespace_of(host), self._port(host)
        call(["ip", "netns", "add", namespace])
        call(
            [
                "ip",
                "link",
                "add",
                port,
                "netns",
                self.prefix,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "address",
                mac,
                "netns",
                namespace,
            ]
        )
        call(["ip", "-n", self.prefix, "link", "set", port, "master", "br0", "up"])
        call(["ip", "-n", namespace, "link", "set", "lo", "up"])
        return f"/run/netns/{namespace}"

    def detach(self, host: str) -> None:
        """Repeatable."""
        succeeds(["ip", "-n", self.prefix, "link", "del", self._port(host)])
        if self.namespace_of(host) in namespaces():
            call(["ip", "netns", "del", self.namespace_of(host)])

    def _port(self, host: str) -> str:
        if not re.fullmatch(rf"[a-z0-9-]{{1,{_MAX_INTERFACE - 2}}}", host):
            raise ServiceError(f"host {host}: a name has at most {_MAX_INTERFACE - 2} of a-z, 0-9 and -")
        return f"v-{host}"

    def _refuse_foreign_route(self) -> None:
        """Check that the lab's addresses are not in a network that this machine already reaches."""
        routes = call(["ip", "-o", "route", "show", "to", "root", f"{_network(self.gateway, self.prefix_length)}"])
        taken = [line for line in routes.splitlines() if f"dev {self.wire}" not in line]
        if taken:
            raise ServiceError(
                f"addresses {_network(self.gateway, self.prefix_length)} are in use here ({taken[0].strip()}); "
                "change proxmox.gateway and the hosts' addresses in home-server-infra/topology/lab.yaml"
            )


def namespaces() -> list[str]:
    """Named network namespaces of this machine."""
    return [line.split()[0] for line in call(["ip", "netns", "list"]).splitlines() if line.strip()]


def _network(address: str, prefix_length: int) -> str:
    return str(ipaddress.ip_interface(f"{address}/{prefix_length}").network)
