"""The lab's requirements on the machine; missing ones are reported at once, with the command to install them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from data_platform_core.errors import ServiceError

#: Program -> Debian package that provides it.
PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "ping": "iputils-ping",
    "openssl": "openssl",
    "ssh-keygen": "openssh-client",
    "ssh": "openssh-client",
    "unshare": "util-linux",
    "mvn": "maven",
    "apt-get": "apt",
}
_CGROUP = Path("/sys/fs/cgroup")
_FREE_MB = 6144


def cgroup_root(base: Path = _CGROUP) -> Path:
    """The machine's cgroup2 tree: in hybrid mode it hangs below `unified`."""
    return base / "unified" if (base / "unified").is_dir() else base


def problems(folder: Path, for_image: bool = True) -> list[str]:
    """Reasons why the lab can't run here, one line each."""
    found = []
    if os.geteuid() != 0:
        found.append("the lab needs root (namespaces, mounts, systemd-nspawn): run it with sudo")
    wanted = dict(PROGRAMS) if for_image else {name: PROGRAMS[name] for name in ("ip", "systemd-nspawn")}
    if lacking := sorted({package for name, package in wanted.items() if shutil.which(name) is None}):
        found.append(f"packages are missing: apt-get install -y --no-install-recommends {' '.join(lacking)}")
    if not (cgroup_root() / "cgroup.procs").exists():
        found.append(f"no cgroup v2 tree at {cgroup_root()}: boot with systemd.unified_cgroup_hierarchy=1")
    folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder).free // 2**20) < _FREE_MB:
        found.append(f"disk: {free} MB free at {folder}, the lab needs {_FREE_MB} MB")
    return found


def require(folder: Path, for_image: bool = True) -> None:
    """Raises ServiceError naming every problem."""
    if found := problems(folder, for_image):
        raise ServiceError("; ".join(found))
