"""What makes a VM's status true: the server calls it when a VM starts, stops or goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from infra_lab.hosts import Hosts
from infra_lab.seed import render_seed


class HostDriver(Protocol):
    """Each call returns when it is done and raises an error whose text becomes the task's status."""

    def start(self, vmid: int, config: Mapping[str, str]) -> None: ...

    def shutdown(self, vmid: int, timeout_s: float) -> None: ...

    def kill(self, vmid: int) -> None: ...

    def destroy(self, vmid: int) -> None: ...

    def running(self, vmid: int) -> bool: ...


def host_name(vmid: int) -> str:
    """The test host of a VM. By id: names of VMs change, and two may have the same."""
    return f"vm-{vmid}"


class NspawnDriver:
    """Boots a test host per VM."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    def start(self, vmid: int, config: Mapping[str, str]) -> None:
        """With the seed that Proxmox would put on the VM's cloud-init drive."""
        self._hosts.boot(host_name(vmid), render_seed(config, self._hosts.recipe.user))

    def shutdown(self, vmid: int, timeout_s: float) -> None:
        self._hosts.shutdown(host_name(vmid), timeout_s)

    def kill(self, vmid: int) -> None:
        self._hosts.kill(host_name(vmid))

    def destroy(self, vmid: int) -> None:
        self._hosts.destroy(host_name(vmid))

    def running(self, vmid: int) -> bool:
        return self._hosts.running(host_name(vmid))
