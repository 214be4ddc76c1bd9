"""The host's state of VMs and storages; written to disk atomically after every change."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from infra_lab.proxmox_api.errors import PveError


@dataclass
class Vm:
    """A VM's configuration as Proxmox stores it: text by key; an unfinished task holds `lock`.

    Whether it runs is not stored: the driver reports it.
    """

    node: str
    config: dict[str, str]
    lock: str | None = None

    @property
    def name(self) -> str:
        return self.config["name"]

    @property
    def template(self) -> bool:
        return self.config.get("template") == "1"

    def digest(self) -> str:
        """Changes with the configuration."""
        text = json.dumps(self.config, sort_keys=True)
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@dataclass
class Storage:
    """`nodes` empty means all; volumes of a storage that is not shared exist on one node only."""

    type: str
    content: str
    shared: bool = False
    nodes: list[str] = field(default_factory=list)

    def on(self, node: str) -> bool:
        return not self.nodes or node in self.nodes


@dataclass
class Cluster:
    """Everything that outlives the server."""

    nodes: list[str]
    bridges: list[str]
    storages: dict[str, Storage]
    vms: dict[int, Vm]

    def vm(self, node: str, vmid: int) -> Vm:
        """Raises PveError 500 with Proxmox's message for a missing VM."""
        vm = self.vms.get(vmid)
        if vm is None or vm.node != node:
            raise PveError(500, f"Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist")
        return vm

    def storage(self, name: str, node: str) -> Storage:
        """Raises PveError 500 when there is none, or none on this node."""
        storage = self.storages.get(name)
        if storage is None:
            raise PveError(500, f"storage '{name}' does not exist")
        if not storage.on(node):
            raise PveError(500, f"storage '{name}' is not available on node '{node}'")
        return storage

    def require_node(self, node: str) -> None:
        """Raises PveError 500 as the proxy between nodes does."""
        if node not in self.nodes:
            raise PveError(
                500,
                f"hostname lookup '{node}' failed - failed to get address info for: {node}: Name or service not known",
            )


class Store:
    """The cluster with its lock and its file."""

    def __init__(self, path: Path, initial: Cluster) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._cluster = _read(path) or initial
        # Tasks end with the server: their locks are released, as after a reboot of a real host.
        for vm in self._cluster.vms.values():
            vm.lock = None
        self._write()

    @contextmanager
    def reading(self) -> Iterator[Cluster]:
        """The cluster, locked against writers."""
        with self._lock:
            yield self._cluster

    @contextmanager
    def writing(self) -> Iterator[Cluster]:
        """The cluster; saved at the end, also when it ends in an error halfway."""
        with self._lock:
            try:
                yield self._cluster
            finally:
                self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self._cluster), indent=1, sort_keys=True), encoding="utf-8")
        # Cloud-init passwords are part of a configuration.
        partial.chmod(0o600)
        partial.replace(self._path)


def _read(path: Path) -> Cluster | None:
    if not path.is_file():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    return Cluster(
        nodes=data["nodes"],
        bridges=data["bridges"],
        storages={name: Storage(**storage) for name, storage in data["storages"].items()},
        vms={int(vmid): Vm(**vm) for vmid, vm in data["vms"].items()},
    )
