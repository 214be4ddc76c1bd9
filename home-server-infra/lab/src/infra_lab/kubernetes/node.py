"""The node: a set of namespaces that stands for a machine, and Kubernetes' processes in it.

Its network is a wire to this machine, which has routes to pods and services, so a browser or Prometheus reaches them.
No default route inside: what is not on this machine can't be reached, at once.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from data_platform_core.commands import call, last_words, succeeds
from data_platform_core.errors import ServiceError
from data_platform_core.waiting import ask_until
from infra_lab.background import Background
from infra_lab.kubernetes import control_plane, images
from infra_lab.kubernetes.build import KUBE
from infra_lab.kubernetes.layout import API_PORT, POD_NETWORK, PREFIX, SERVICE_NETWORK, Layout, Wire
from infra_lab.kubernetes.oci import Images

_INIT = Path(__file__).with_name("node_init.sh")
_NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--ipc")
_CGROUPS = Path("/sys/fs/cgroup")
_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "systemd")
#: runc makes a group in the v2 tree of a hybrid machine as well.
_LEFT_BY_RUNC = "unified"
_STORE = "http://127.0.0.1:2379"
_STORE_PEER = "http://127.0.0.1:2380"
WIRE_NAME = f"{PREFIX}0"
_GROUPS_SECONDS = 15.0
_GROUPS_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Node:
    """The node of one cluster."""

    layout: Layout
    wire: Wire

    @property
    def init(self) -> Background:
        """`unshare`, whose only child is the node's process 1; its end is the end of the node."""
        return Background(self.layout.run, "node")

    def part(self, name: str) -> Background:
        """One of Kubernetes' processes, by its name."""
        return Background(self.layout.run, name)

    def is_up(self) -> bool:
        """Whether its namespaces are there."""
        return self.init.process() is not None

    def inside(self, *command: str) -> list[str]:
        """`command` as a command that runs in the node."""
        process = self.init.process()
        children = process.children() if process else []
        if not children:
            raise ServiceError("the node is down; start it: `make k8s-up`")
        return ["nsenter", f"--target={children[0].pid}", *_NAMESPACES, "--", *command]

    def ctr(self, *arguments: str) -> list[str]:
        """containerd's own client, in the node, as kubelet sees images."""
        return self.inside("ctr", "--namespace=k8s.io", *arguments)

    def create(self) -> None:
        """Namespaces, wire and control groups; nothing runs in them yet."""
        self._refuse_leftovers()
        for folder in self.layout.objects:
            folder.mkdir(parents=True, exist_ok=True)
        self.layout.etcd.chmod(0o700)
        ready = self.layout.run / "ready"
        ready.unlink(missing_ok=True)
        self.init.start(["unshare", *_NAMESPACES, "--fork", "--kill-child", str(_INIT), str(self.layout.run), PREFIX])
        control_plane.wait_for(
            "namespaces of the node", ready.exists, (self.init.log,), lambda: self.init.process() is None
        )
        self._connect()
        _make_control_groups()

    def _refuse_leftovers(self) -> None:
        for hidden in ("/run", "/var/lib", "/var/log"):
            for folder in (self.layout.root, self.layout.cache):
                if folder.is_relative_to(hidden):
                    raise ServiceError(
                        f"{folder} is below {hidden}, which the node hides; set CRM_STATE or XDG_CACHE_HOME"
                    )
        if succeeds(["ip", "link", "show", WIRE_NAME]):
            raise ServiceError(
                f"interface {WIRE_NAME} is there: another checkout's cluster runs; `make k8s-down` in it"
            )

    def _connect(self) -> None:
        """The wire, and routes at both ends."""
        (inner,) = (child.pid for child in self.init.process().children())  # type: ignore[union-attr]
        call(["ip", "link", "add", WIRE_NAME, "type", "veth", "peer", "name", "eth0", "netns", f"/proc/{inner}/ns/net"])
        call(["ip", "address", "add", str(self.wire.machine), "dev", WIRE_NAME])
        call(["ip", "link", "set", WIRE_NAME, "up"])
        call(self.inside("ip", "address", "add", str(self.wire.node), "dev", "eth0"))
        call(self.inside("ip", "link", "set", "eth0", "up"))
        # A packet to a service needs a route, before kube-proxy's rules give it another address.
        node = str(self.wire.node.ip)
        call(self.inside("ip", "route", "add", str(SERVICE_NETWORK), "dev", "eth0", "src", node))
        for network in (POD_NETWORK, SERVICE_NETWORK):
            call(["ip", "route", "add", str(network), "via", node, "dev", WIRE_NAME])

    def start_control_plane(self) -> None:
        """Store and API server; returns when it answers."""
        layout, files = self.layout, self.layout.certificates
        self._start("etcd", *control_plane.etcd_flags(layout, _STORE, _STORE_PEER))
        self._start(
            "kube-apiserver", *control_plane.api_server_flags(layout, _STORE), f"--secure-port={API_PORT}",
            f"--advertise-address={self.wire.node.ip}", "--allow-privileged=true",
            "--enable-admission-plugins=NodeRestriction", "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={files / 'apiserver-to-kubelet.crt'}",
            f"--kubelet-client-key={files / 'apiserver-to-kubelet.key'}",
        )  # fmt: skip
        server = self.part("kube-apiserver")
        control_plane.wait_for(
            "API server", lambda: control_plane.api_server_ready(layout), (server.log, self.part("etcd").log),
            lambda: server.process() is None,
        )  # fmt: skip

    def start_containerd(self) -> None:
        """Without the records of containers that died with an earlier node."""
        self._run_containerd()
        if stale := call(self.ctr("containers", "ls", "-q")).split():
            call(self.ctr("containers", "rm", *stale))
            self.stop_part("containerd")
            self._run_containerd()

    def import_images(self) -> list[str]:
        """The system images that containerd lacks or has otherwise; returns their names."""
        store = Images(self.layout.images)
        rows = [line.split() for line in call(self.ctr("images", "ls")).splitlines()[1:]]
        present = {(row[0], row[2]) for row in rows}
        wanted = [image.reference for image in images.SYSTEM_IMAGES]
        missing = [name for name in wanted if (name, store.digest(name)) not in present]
        if missing:
            self._import(lambda out: store.export(missing, out))
        return missing

    def import_archive(self, archive: Path) -> None:
        """An image that a builder wrote as an OCI archive, under the name that the archive gives it."""
        call(self.ctr("images", "import", str(archive)))

    def _import(self, write: Callable[[IO[bytes]], None]) -> None:
        """What `write` writes, as an archive of images, without a file in between."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            self.ctr("images", "import", "-"), stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT
        ) as importing:
            assert importing.stdin is not None
            assert importing.stdout is not None
            with contextlib.suppress(BrokenPipeError), importing.stdin as out:
                write(out)
            said = importing.stdout.read().decode(errors="replace")
        if importing.returncode:
            raise ServiceError(f"containerd refuses an image: {last_words(said)}")

    def start_kubelet(self) -> None:
        """What schedules and runs pods; returns when the node is Ready."""
        files, config = self.layout.certificates, self.layout.config
        self._start(
            "kube-controller-manager", f"--kubeconfig={files / 'kube-controller-manager.conf'}",
            f"--service-account-private-key-file={files / 'service-account.key'}", f"--root-ca-file={files / 'ca.crt'}",
            f"--cluster-signing-cert-file={files / 'ca.crt'}", f"--cluster-signing-key-file={files / 'ca.key'}",
            "--use-service-account-credentials=true", "--leader-elect=false",
        )  # fmt: skip
        self._start("kube-scheduler", f"--kubeconfig={files / 'kube-scheduler.conf'}", "--leader-elect=false")
        self._start("kube-proxy", f"--config={config / 'kube-proxy.yaml'}")
        self._start(
            "kubelet", f"--config={config / 'kubelet.yaml'}", f"--kubeconfig={files / 'kubelet.conf'}",
            f"--hostname-override={PREFIX}", f"--node-ip={self.wire.node.ip}", f"--root-dir={self.layout.kubelet}",
            f"--cert-dir={self.layout.kubelet / 'pki'}",
        )  # fmt: skip
        self.wait_until_ready()

    def restart_part(self, name: str) -> None:
        """End one of Kubernetes' processes and start it with the same flags. Raises ServiceError when it is down."""
        process = self.part(name).process()
        if process is None:
            raise ServiceError(f"{name} does not run on the node; see {self.part(name).log}")
        command = process.cmdline()
        self.stop_part(name)
        self.part(name).start(command)

    def wait_until_ready(self) -> None:
        """Until the API server has heard from the kubelet that pods can run."""
        ready = control_plane.kubectl_command(
            self.layout, "wait", "--for=condition=Ready", f"node/{PREFIX}", "--timeout=1s"
        )
        kubelet = self.part("kubelet")
        control_plane.wait_for("node Ready", lambda: succeeds(ready), (kubelet.log,), lambda: kubelet.process() is None)

    def stop_part(self, name: str) -> None:
        """End one of Kubernetes' processes: `nsenter` waits for it, so its child gets the signal."""
        part = self.part(name)
        if (process := part.process()) is not None:
            for child in process.children():
                child.terminate()
            part.wait_for_end(10.0)

    def destroy(self) -> None:
        """End every process of the node and forget its objects. Repeatable."""
        self.init.stop()
        if succeeds(["ip", "link", "show", WIRE_NAME]):
            call(["ip", "link", "del", WIRE_NAME])  # its routes go with it
        for controller in (*_CONTROLLERS, _LEFT_BY_RUNC):
            _remove_groups(_CGROUPS / controller / PREFIX)
        for folder in self.layout.objects:
            shutil.rmtree(folder, ignore_errors=True)

    def memory_mb(self) -> Iterator[tuple[str, float]]:
        """Name and RSS of each process of the node that is in no pod's pid namespace."""
        process = self.init.process()
        if process is None:
            return
        (inner,) = process.children()
        namespace = Path(f"/proc/{inner.pid}/ns/pid").readlink()
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if Path(f"/proc/{each.pid}/ns/pid").readlink() == namespace:
                    command = each.cmdline()
                    name = command[1] if Path(command[0]).name == KUBE.name else Path(command[0]).name
                    yield name, each.memory_info().rss / 2**20

    def _start(self, name: str, *flags: str) -> None:
        self.part(name).start(self.inside(str(self.layout.bin / KUBE.name), name, *flags))

    def _run_containerd(self) -> None:
        part = self.part("containerd")
        part.start(self.inside("containerd", "--config", str(self.layout.config / "containerd.toml")))
        answers = self.ctr("version")
        control_plane.wait_for("containerd", lambda: succeeds(answers), (part.log,), lambda: part.process() is None)


def _make_control_groups() -> None:
    """kubelet's root in each v1 controller. A cpuset is empty until its processors and memory nodes are named."""
    if not (_CGROUPS / "memory").is_dir():
        raise ServiceError(
            f"no cgroup v1 controllers at {_CGROUPS}: the node has only been tried with them; on a machine with cgroup "
            "v2 alone use the light tier (`make test-k8s`)"
        )
    for controller in _CONTROLLERS:
        (_CGROUPS / controller / PREFIX).mkdir(parents=True, exist_ok=True)
    for file in ("cpuset.cpus", "cpuset.mems"):
        whole = (_CGROUPS / "cpuset" / file).read_text(encoding="ascii")
        (_CGROUPS / "cpuset" / PREFIX / file).write_text(whole, encoding="ascii")


def _remove_groups(group: Path) -> None:
    """A group is busy until the last of its processes has ended, some time after it was killed."""
    ask_until(bool, lambda: _removed(group), within_s=_GROUPS_SECONDS, every_s=_GROUPS_POLL_SECONDS)


def _removed(group: Path) -> bool:
    for folder in sorted(group.rglob("*/"), key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()
