"""Test hosts: systemd, cloud-init and ssh in systemd-nspawn containers that simulate a Proxmox host's VMs.

Each has its layer over the shared image, its network namespace and its own cgroup tree. They boot in seconds and behave
like VMs for ssh, systemd, apt and cloud-init; README.md lists the differences.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import uuid
from dataclasses import dataclass
from pathlib import Path

from data_platform_core.commands import call
from data_platform_core.errors import ServiceError
from infra_lab.background import Background
from infra_lab.image import Recipe
from infra_lab.layout import APT_CACHE_PORT
from infra_lab.needs import cgroup_root
from infra_lab.network import LabNetwork
from infra_lab.seed import Seed

_STOP_SECONDS = 60.0
_SEED_FOLDER = Path("var/lib/cloud/seed/nocloud")

#: nspawn needs a view of /sys/fs/cgroup that holds cgroup2 alone and begins at the host's own group: systemd inside
#: refuses a hybrid tree. `--register=no --keep-unit` since the machine may have no systemd of its own to ask.
#: Exit code 133 of nspawn means that the guest asked for a reboot.
_SUPERVISOR = """\
#!/bin/bash
# Supervisor of one test host; rewritten at each boot.
set -eu
echo $$ >{cgroup}/cgroup.procs
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# sysctls of the host's own network namespace are its to set.
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network SYSTEMD_NSPAWN_TMPFS_TMP=0
while :; do
    code=0
    systemd-nspawn --quiet --directory={root} --machine={name} --hostname={hostname} --uuid={uuid} --boot \\
        --register=no --keep-unit --console=read-only --resolv-conf=off --timezone=off --link-journal=no \\
        --network-namespace-path={namespace} --capability=CAP_NET_ADMIN,CAP_NET_RAW || code=$?
    [ "$code" = 133 ] || exit "$code"
done
"""


@dataclass(frozen=True)
class Hosts:
    """The hosts below `folder`, on one image and one network."""

    folder: Path
    image: Path
    recipe: Recipe
    network: LabNetwork

    def boot(self, name: str, seed: Seed) -> None:
        """Start to boot; ssh answers some seconds later. Raises ServiceError if it runs already."""
        supervisor = self._supervisor(name)
        if supervisor.process() is not None:
            raise ServiceError(f"host {name} runs already")
        self._release(name)
        root = self._mount(name)
        self._write_seed(root, seed)
        self._write_apt_sources(root)
        cgroup = self._cgroup(name)
        cgroup.mkdir(parents=True, exist_ok=True)
        script = self.folder / name / "supervise.sh"
        script.write_text(
            _SUPERVISOR.format(
                cgroup=cgroup,
                root=root,
                name=name,
                hostname=seed.name,
                uuid=uuid.uuid4(),
                namespace=self.network.attach(name, seed.mac),
            ),
            encoding="utf-8",
        )
        supervisor.start(["unshare", "--mount", "--propagation", "private", "bash", str(script)])

    def shutdown(self, name: str, timeout_s: float = _STOP_SECONDS) -> None:
        """Shut down as by the power button; kill it after `timeout_s`. Does nothing to a host that is down."""
        if (process := self._supervisor(name).process()) is not None:
            for child in process.children():
                if child.name() == "systemd-nspawn":
                    child.send_signal(signal.SIGTERM)
            if not self._supervisor(name).wait_for_end(timeout_s):
                self.kill(name)
        self._release(name)

    def kill(self, name: str) -> None:
        """Kill it as by a power failure: every process ends, nothing is flushed."""
        init = self._init_pid(name)
        if init is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(init, signal.SIGKILL)
        supervisor = self._supervisor(name)
        if not supervisor.wait_for_end(_STOP_SECONDS):
            supervisor.stop()
        self._release(name)

    def destroy(self, name: str) -> None:
        """Shut down and delete its data."""
        self.shutdown(name)
        folder = self.folder / name
        if os.path.ismount(folder / "root"):
            raise ServiceError(f"{folder / 'root'} is still mounted; not deleting {folder}")
        shutil.rmtree(folder, ignore_errors=True)

    def running(self, name: str) -> bool:
        return self._supervisor(name).process() is not None

    def names(self) -> list[str]:
        """Hosts that have a folder, running or not."""
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []

    def last_words(self, name: str) -> str:
        """The end of its console."""
        return self._supervisor(name).last_words()

    def _supervisor(self, name: str) -> Background:
        return Background(self.folder / name, "console")

    def _cgroup(self, name: str) -> Path:
        return cgroup_root() / self.network.prefix / name

    def _init_pid(self, name: str) -> int | None:
        """Process id, on the machine, of the host's systemd."""
        try:
            pids = (self._cgroup(name) / "payload" / "init.scope" / "cgroup.procs").read_text(encoding="utf-8").split()
        except OSError:
            return None
        return int(pids[0]) if pids else None

    def _mount(self, name: str) -> Path:
        """The image below, the host's own writes above."""
        folder = self.folder / name
        for part in ("upper", "work", "root"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        root = folder / "root"
        if not os.path.ismount(root):
            layers = f"lowerdir={self.image},upperdir={folder / 'upper'},workdir={folder / 'work'}"
            call(["mount", "-t", "overlay", "overlay", "-o", layers, str(root)])
        return root

    def _write_seed(self, root: Path, seed: Seed) -> None:
        folder = root / _SEED_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        for file, text in seed.files.items():
            (folder / file).write_text(text, encoding="utf-8")

    def _write_apt_sources(self, root: Path) -> None:
        """The lab's apt cache, the only thing that hosts can reach besides each other."""
        base = f"http://{self.network.gateway}:{APT_CACHE_PORT}"
        components = self.recipe.components.replace(",", " ")
        archives = [(self.recipe.folder, self.recipe.suite), *self.recipe.updates]
        key = f"[signed-by={self.recipe.keyring}]"
        lines = [f"deb {key} {base}/{where} {suite} {components}\n" for where, suite in archives]
        (root / "etc/apt/sources.list").write_text("".join(lines), encoding="utf-8")
        # A mirror's Release file may have run out, and a host's clock is the machine's.
        (root / "etc/apt/apt.conf.d/99lab").write_text(
            'Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\nAcquire::Languages "none";\n',
            encoding="utf-8",
        )

        # Ansible's cache_valid_time uses the folder's time: an image without lists must not appear freshly updated.
        lists = root / "var/lib/apt/lists"
        if not any(lists.glob("*_Packages*")):
            os.utime(lists, (0, 0))

    def _release(self, name: str) -> None:
        """Mount, network and cgroup of a host that is down; repeatable."""
        root = self.folder / name / "root"
        if os.path.ismount(root):
            call(["umount", str(root)])
        self.network.detach(name)
        group = self._cgroup(name)
        for folder in sorted(group.rglob("*/"), key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()
            group.parent.rmdir()
