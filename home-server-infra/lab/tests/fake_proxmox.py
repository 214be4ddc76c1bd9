"""A Proxmox API whose hosts only record requests, and short helpers to call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from httpx import Response

from infra_lab.proxmox_api.faults import Faults
from infra_lab.proxmox_api.state import Cluster, Storage, Vm
from infra_lab.proxmox_api.tasks import TaskList

SECRET = "11111111-2222-3333-4444-555555555555"
TEMPLATE = {
    "name": "debian-12-cloud", "memory": "1024", "cores": "1", "template": "1",
    "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0", "scsi0": "local-lvm:base-9000-disk-0,size=3G",
}  # fmt: skip


class FakeDriver:
    """Hosts as a set of ids; `boots` keeps the configuration that each start was given."""

    def __init__(self) -> None:
        self.up: set[int] = set()
        self.boots: dict[int, Mapping[str, str]] = {}
        self.killed: list[int] = []

    def start(self, vmid: int, config: Mapping[str, str]) -> None:
        self.boots[vmid] = config
        self.up.add(vmid)

    def shutdown(self, vmid: int, timeout_s: float) -> None:
        self.up.discard(vmid)

    def kill(self, vmid: int) -> None:
        self.killed.append(vmid)
        self.up.discard(vmid)

    def destroy(self, vmid: int) -> None:
        self.up.discard(vmid)

    def running(self, vmid: int) -> bool:
        return vmid in self.up


@dataclass
class Api:
    """The API, its backend, and short helpers to call it."""

    client: TestClient
    driver: FakeDriver
    faults: Faults
    tasks: TaskList
    state: Path

    def ask(self, method: str, path: str, user: str = "automation@pve", **given: Any) -> Response:
        """One call, as community.proxmox makes it: a token, parameters as a form."""
        headers = {"Authorization": f"PVEAPIToken={user}!ansible={SECRET}"}
        where = f"/api2/json{path}"
        if method in ("GET", "DELETE"):
            return self.client.request(method, where, params=given, headers=headers)
        return self.client.request(method, where, data=given, headers=headers)

    def task(self, method: str, path: str, **given: Any) -> str:
        """Exit status of the task that a call begins."""
        answer = self.ask(method, path, **given)
        assert answer.status_code == 200, answer.text
        self.tasks.wait()
        status = self.ask("GET", f"/nodes/pve/tasks/{answer.json()['data']}/status").json()["data"]
        assert status["status"] == "stopped"
        return str(status["exitstatus"])

    def clone(self, newid: int, **given: Any) -> str:
        return self.task("POST", "/nodes/pve/qemu/9000/clone", newid=newid, name=f"vm{newid}", full=1, **given)


def first_cluster() -> Cluster:
    return Cluster(
        nodes=["pve", "pve2"],
        bridges=["vmbr0"],
        storages={
            "local-lvm": Storage("lvmthin", "images"),
            "elsewhere": Storage("lvmthin", "images", nodes=["pve2"]),
        },
        vms={9000: Vm("pve", dict(TEMPLATE))},
    )
