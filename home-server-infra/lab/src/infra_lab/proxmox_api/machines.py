"""Implements the calls on VMs: immediate checks, then the work in a task that holds the VM's lock."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from infra_lab.proxmox_api.access import Token
from infra_lab.proxmox_api.driver import HostDriver
from infra_lab.proxmox_api.errors import PveError, bad_parameters
from infra_lab.proxmox_api.faults import Faults
from infra_lab.proxmox_api.parameters import Parameters, is_true
from infra_lab.proxmox_api.state import Cluster, Store, Vm
from infra_lab.proxmox_api.tasks import TaskList
from infra_lab.seed import options

_DISK = re.compile(r"^(?:scsi|virtio|sata|ide|efidisk|tpmstate)\d+$")
_MAC = re.compile(r"^\w+=[0-9A-Fa-f:]{17}")
_GIB = 1024**3
_UNITS = {"K": 1024, "M": 1024**2, "G": _GIB, "T": 1024**4}
_SHUTDOWN_SECONDS = 60.0
#: Privilege for a change of each key; the first match counts.
_PRIVILEGES = (
    (r"cores|sockets|cpu|cpulimit|cpuunits|vcpus|numa.*", "VM.Config.CPU"),
    (r"memory|balloon|shares", "VM.Config.Memory"),
    (r"net\d+", "VM.Config.Network"),
    (r"ciuser|cipassword|citype|ciupgrade|cicustom|sshkeys|nameserver|searchdomain|ipconfig\d+", "VM.Config.Cloudinit"),
    (r"(?:scsi|virtio|sata|ide|unused|efidisk)\d+|scsihw|boot|bootdisk", "VM.Config.Disk"),
    (r"vga|serial\d+|machine|bios|tablet|acpi|kvm", "VM.Config.HWType"),
)


@dataclass(frozen=True)
class Caller:
    """The caller's token and the node."""

    token: Token
    node: str


class Machines:
    """The VMs. `copy_s` is how long a clone holds its lock: on a real host that is seconds to minutes."""

    def __init__(self, store: Store, driver: HostDriver, tasks: TaskList, faults: Faults, copy_s: float = 1.0) -> None:
        self._store = store
        self._driver = driver
        self._tasks = tasks
        self._faults = faults
        self._copy_s = copy_s

    def row(self, vmid: int, vm: Vm) -> dict[str, object]:
        """A VM as in lists; memory and disk in bytes."""
        row: dict[str, object] = {
            "id": f"qemu/{vmid}", "type": "qemu", "vmid": vmid, "name": vm.name, "node": vm.node,
            "status": "running" if self._driver.running(vmid) else "stopped",
            "template": int(vm.template), "tags": vm.config.get("tags", ""),
            "maxmem": int(vm.config.get("memory", "512")) * 1024**2, "maxcpu": int(vm.config.get("cores", "1")),
            "maxdisk": max((size_of(value) for key, value in vm.config.items() if _DISK.match(key)), default=0),
        }  # fmt: skip
        return {**row, "lock": vm.lock} if vm.lock else row

    def rows(self, token: Token, node: str | None = None) -> list[dict[str, object]]:
        """The VMs visible to the token."""
        with self._store.reading() as cluster:
            return [
                self.row(vmid, vm)
                for vmid, vm in sorted(cluster.vms.items())
                if token.has(f"/vms/{vmid}", "VM.Audit") and node in (None, vm.node)
            ]

    def config(self, caller: Caller, vmid: int) -> dict[str, object]:
        """The stored configuration with its digest; passwords are starred."""
        caller.token.require(f"/vms/{vmid}", "VM.Audit")
        with self._store.reading() as cluster:
            vm = cluster.vm(caller.node, vmid)
            shown: dict[str, object] = {
                key: int(value) if value.isdigit() else value for key, value in vm.config.items()
            }
            if "cipassword" in shown:
                shown["cipassword"] = "**********"
            # Proxmox stores memory as text.
            return {**shown, "memory": vm.config.get("memory", "512"), "digest": vm.digest()}

    def configure(self, caller: Caller, vmid: int, given: Parameters) -> None:
        """Apply a change of configuration at once."""
        for key in [*given, *_listed(given.get("delete", ""))]:
            if key not in ("delete", "digest"):
                caller.token.require(f"/vms/{vmid}", _privilege(key))
        with self._store.writing() as cluster:
            vm = cluster.vm(caller.node, vmid)
            _refuse_lock(vm)
            if given.get("digest") not in (None, vm.digest()):
                raise PveError(500, "detected modified configuration - file changed by other user? Try again.")
            _check_places(cluster, vm.node, given)
            for key in _listed(given.get("delete", "")):
                vm.config.pop(key, None)
            kept = {key: value for key, value in given.items() if key not in ("delete", "digest", "force")}
            vm.config.update({key: _settled(key, value) for key, value in kept.items()})

    def configure_later(self, caller: Caller, vmid: int, given: Parameters) -> str:
        """The same as a task, as POST does."""
        with self._store.reading() as cluster:
            cluster.vm(caller.node, vmid)
        return self._task(caller, "qmconfig", vmid, lambda: self.configure(caller, vmid, given))

    def clone(self, caller: Caller, source: int, given: Parameters) -> str:
        """A task that copies; the new VM exists at once, locked until the copy is complete."""
        new, target = int(given["newid"]), given.get("target", caller.node)
        caller.token.require(f"/vms/{source}", "VM.Clone")
        caller.token.require(f"/vms/{new}", "VM.Allocate")
        with self._store.writing() as cluster:
            vm = cluster.vm(caller.node, source)
            _refuse_lock(vm)
            cluster.require_node(target)
            _refuse_used(cluster, new)
            full = is_true(given.get("full")) or not vm.template
            if given.get("storage") and not full:
                raise bad_parameters({"storage": "parameter 'storage' not allowed for linked clones"})
            for storage in {given["storage"]} if given.get("storage") else _storages(vm.config):
                caller.token.require(f"/storage/{storage}", "Datastore.AllocateSpace")
                cluster.storage(storage, target)
            if target != caller.node and any(not cluster.storages[name].shared for name in _storages(vm.config)):
                raise PveError(500, f"can't clone VM to node '{target}' (VM uses local storage)")
            config = {key: value for key, value in vm.config.items() if key != "template"}
            config |= {"name": given.get("name", f"Copy-of-VM-{vm.name}")}
            if "description" in given:
                config["description"] = given["description"]
            config = {key: _copied(key, value, new, given.get("storage")) for key, value in config.items()}
            cluster.vms[new] = Vm(target, config, lock="clone")
        return self._task(caller, "qmclone", source, lambda: self._copy(new))

    def create(self, caller: Caller, given: Parameters) -> str:
        """A task that creates a VM, such as the one that becomes the template."""
        vmid = int(given["vmid"])
        caller.token.require(f"/vms/{vmid}", "VM.Allocate")
        asked = ("vmid", "storage", "pool", "start", "unique")
        config = {key: value for key, value in given.items() if key not in asked}
        with self._store.writing() as cluster:
            _refuse_used(cluster, vmid)
            _check_places(cluster, caller.node, config)
            for storage in _storages(config):
                caller.token.require(f"/storage/{storage}", "Datastore.AllocateSpace")
            settled = {key: _settled(key, _allocated(key, value, vmid)) for key, value in config.items()}
            cluster.vms[vmid] = Vm(caller.node, {"name": f"VM {vmid}", **settled}, lock="create")
        return self._task(caller, "qmcreate", vmid, lambda: self._copy(vmid))

    def resize(self, caller: Caller, vmid: int, given: Parameters) -> str:
        """A task that grows a disk."""
        caller.token.require(f"/vms/{vmid}", "VM.Config.Disk")
        disk = given["disk"]
        with self._store.reading() as cluster:
            vm = cluster.vm(caller.node, vmid)
            _refuse_lock(vm)
            if disk not in vm.config:
                raise PveError(500, f"disk '{disk}' does not exist")

        def grow() -> None:
            self._fail("resize")
            with self._store.writing() as cluster:
                config = cluster.vm(caller.node, vmid).config
                old, wanted = size_of(config[disk]), _bytes(given["size"].lstrip("+"))
                new = old + wanted if given["size"].startswith("+") else wanted
                if new < old:
                    raise PveError(500, "shrinking disks is not supported")
                config[disk] = re.sub(r"size=[^,]+", f"size={_shown(new)}", config[disk])

        return self._task(caller, "resize", vmid, grow)

    def start(self, caller: Caller, vmid: int) -> str:
        """A task that boots."""
        caller.token.require(f"/vms/{vmid}", "VM.PowerMgmt")
        with self._store.reading() as cluster:
            vm = cluster.vm(caller.node, vmid)
            if vm.template:
                raise PveError(500, "you can't start a vm if it's a template")
            _refuse_lock(vm)

        def boot() -> None:
            self._fail("start")
            if self._driver.running(vmid):
                raise PveError(500, f"VM {vmid} already running")
            with self._store.reading() as cluster:
                config = dict(cluster.vm(caller.node, vmid).config)
            self._driver.start(vmid, config)

        return self._task(caller, "qmstart", vmid, boot)

    def end(self, caller: Caller, vmid: int, given: Parameters, kind: str) -> str:
        """`qmshutdown` shuts down cleanly, `qmstop` kills, `qmreboot` and `qmreset` start again afterwards."""
        caller.token.require(f"/vms/{vmid}", "VM.PowerMgmt")
        with self._store.reading() as cluster:
            _refuse_lock(cluster.vm(caller.node, vmid))
        hard = kind in ("qmstop", "qmreset")

        def stop() -> None:
            self._fail("stop")
            if hard:
                self._driver.kill(vmid)
            else:
                self._driver.shutdown(vmid, float(given.get("timeout", _SHUTDOWN_SECONDS)))
            if kind in ("qmreboot", "qmreset"):
                with self._store.reading() as cluster:
                    config = dict(cluster.vm(caller.node, vmid).config)
                self._driver.start(vmid, config)

        return self._task(caller, kind, vmid, stop)

    def make_template(self, caller: Caller, vmid: int) -> str:
        """A task; a template never starts again."""
        caller.token.require(f"/vms/{vmid}", "VM.Allocate")
        with self._store.writing() as cluster:
            vm = cluster.vm(caller.node, vmid)
            _refuse_lock(vm)
            if self._driver.running(vmid):
                raise PveError(500, f"unable to create template, because VM {vmid} is running")
            vm.config["template"] = "1"
        return self._task(caller, "qmtemplate", vmid, lambda: None)

    def destroy(self, caller: Caller, vmid: int) -> str:
        """A task that deletes a stopped VM with its disks."""
        caller.token.require(f"/vms/{vmid}", "VM.Allocate")
        with self._store.reading() as cluster:
            vm = cluster.vm(caller.node, vmid)
            if is_true(vm.config.get("protection")):
                raise PveError(500, f"can't remove VM {vmid} - protection mode enabled")
            _refuse_lock(vm)
            if self._driver.running(vmid):
                raise PveError(500, f"VM {vmid} is running - destroy failed")

        def remove() -> None:
            self._fail("destroy")
            self._driver.destroy(vmid)
            with self._store.writing() as cluster:
                cluster.vms.pop(vmid, None)

        return self._task(caller, "qmdestroy", vmid, remove)

    def status(self, caller: Caller, vmid: int) -> dict[str, object]:
        """The answer of `status/current`."""
        caller.token.require(f"/vms/{vmid}", "VM.Audit")
        with self._store.reading() as cluster:
            row = self.row(vmid, cluster.vm(caller.node, vmid))
        return {**row, "qmpstatus": row["status"], "ha": {"managed": 0}}

    def _task(self, caller: Caller, kind: str, vmid: int, action: Callable[[], None]) -> str:
        return self._tasks.begin(caller.node, kind, vmid, caller.token.id, action)

    def _fail(self, kind: str) -> None:
        """Raises PveError if a failure of this kind is scheduled."""
        if (words := self._faults.take(kind)) is not None:
            raise PveError(500, words)

    def _copy(self, vmid: int) -> None:
        """Hold the lock while a disk would be copied; a copy that fails leaves no VM behind, as on a real host."""
        with self._removed_on_failure(vmid):
            self._fail("clone")
            time.sleep(self._copy_s)
        with self._store.writing() as cluster:
            cluster.vms[vmid].lock = None

    @contextmanager
    def _removed_on_failure(self, vmid: int) -> Iterator[None]:
        try:
            yield
        except Exception:
            with self._store.writing() as cluster:
                cluster.vms.pop(vmid, None)
            raise


def size_of(volume: str) -> int:
    """Bytes of a disk from its `size=` option; 0 without one."""
    size = options(volume).get("size")
    return _bytes(size) if size else 0


def _bytes(size: str) -> int:
    unit = size[-1] if size[-1] in _UNITS else ""
    return int(float(size.removesuffix(unit)) * _UNITS.get(unit, 1))


def _shown(size: int) -> str:
    return f"{size // _GIB}G" if size % _GIB == 0 else f"{size // 1024**2}M"


def _listed(keys: str) -> list[str]:
    return [key for key in re.split(r"[,; ]+", keys) if key]


def _privilege(key: str) -> str:
    return next((name for pattern, name in _PRIVILEGES if re.fullmatch(pattern, key)), "VM.Config.Options")


def _refuse_lock(vm: Vm) -> None:
    if vm.lock is not None:
        raise PveError(500, f"VM is locked ({vm.lock})")


def _refuse_used(cluster: Cluster, vmid: int) -> None:
    if (other := cluster.vms.get(vmid)) is not None:
        raise PveError(500, f"unable to create VM {vmid}: VM {vmid} already exists on node '{other.node}'")


def _storages(config: Parameters) -> list[str]:
    """Storages of a configuration's disks."""
    volumes = [value for key, value in config.items() if _DISK.match(key)]
    return sorted({volume.split(":", 1)[0] for volume in volumes if ":" in volume and not volume.startswith("none")})


def _check_places(cluster: Cluster, node: str, config: Parameters) -> None:
    """Check that a configuration's storages and bridges exist."""
    for storage in _storages(config):
        cluster.storage(storage, node)
    for key, value in config.items():
        bridge = options(value).get("bridge") if re.fullmatch(r"net\d+", key) else None
        if bridge is not None and bridge not in cluster.bridges:
            raise PveError(500, f"bridge '{bridge}' does not exist")


def _settled(key: str, value: str) -> str:
    """A value as Proxmox stores it: a network card without a MAC address gets one of Proxmox's range."""
    if re.fullmatch(r"net\d+", key) and not _MAC.match(value):
        mac = "BC:24:11:" + ":".join(f"{byte:02X}" for byte in random.randbytes(3))
        return re.sub(r"^(?:model=)?(\w+)", rf"\1={mac}", value)
    return value


def _copied(key: str, value: str, vmid: int, storage: str | None) -> str:
    """A clone's value: disks are volumes of its own, network cards get new MAC addresses."""
    if re.fullmatch(r"net\d+", key):
        return _settled(key, re.sub(r"^(\w+)=[0-9A-Fa-f:]{17}", r"\1", value))
    if _DISK.match(key) and ":" in value:
        place, rest = value.split(":", 1)
        volume = re.sub(r"\b(?:base|vm)-\d+-", f"vm-{vmid}-", rest)
        return f"{storage or place}:{volume}"
    return value


def _allocated(key: str, value: str, vmid: int) -> str:
    """A new disk's value: `store:8` asks for 8 GiB, `import-from` for a copy of an image, `cloudinit` for a drive."""
    place, colon, rest = value.partition(":")
    if not (_DISK.match(key) and colon):
        return value
    first = rest.split(",", 1)[0]
    if first == "cloudinit":
        return f"{place}:vm-{vmid}-cloudinit,media=cdrom"
    number = re.sub(r"\D", "", key)
    if first.isdigit():
        size = f"{first}G" if first != "0" else "3G"  # a cloud image's usual size
        return f"{place}:vm-{vmid}-disk-{number},size={size}"
    return value
