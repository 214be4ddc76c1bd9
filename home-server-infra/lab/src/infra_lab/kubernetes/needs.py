"""What the cluster needs of the machine; root gets the missing packages installed, anyone else the command."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from data_platform_core.commands import call
from data_platform_core.errors import ServiceError
from infra_lab.kubernetes.build import Progress
from infra_lab.kubernetes.layout import Layout

#: Debian package -> a file that it brings.
_PACKAGES = {
    "containerd": "/usr/bin/containerd",
    "runc": "/usr/sbin/runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "/usr/sbin/iptables",
    "conntrack": "/usr/sbin/conntrack",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "buildah": "/usr/bin/buildah",
    "iproute2": "/usr/sbin/ip",
    "openssl": "/usr/bin/openssl",
}
_FREE_MB = 12_288
#: What the node takes at rest, and a driver with an executor.
_MEMORY_MB = 3_072


def require(layout: Layout, progress: Progress) -> None:
    """Installs missing packages. Raises ServiceError naming every other problem."""
    if os.geteuid() != 0:
        raise ServiceError("the cluster needs root (namespaces, mounts, containers): run it with sudo")
    found = []
    if shutil.which("go") is None:
        found.append("Go is missing: install Go 1.24 or newer and put `go` on PATH")
    layout.cache.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(layout.cache).free // 2**20) < _FREE_MB:
        found.append(f"disk: {free} MB free at {layout.cache}, the cluster needs {_FREE_MB} MB")
    if (memory := psutil.virtual_memory().available // 2**20) < _MEMORY_MB:
        found.append(f"memory: {memory} MB available, the cluster needs {_MEMORY_MB} MB")
    if found:
        raise ServiceError("; ".join(found))
    _install(progress)


def _install(progress: Progress) -> None:
    missing = [package for package, file in _PACKAGES.items() if not Path(file).exists()]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ServiceError(f"install these with your package manager (names are Debian's): {' '.join(missing)}")
    progress(f"packages: {', '.join(missing)}")
    options = ["-qq", "-o", "DPkg::Lock::Timeout=300"]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    call(["apt-get", *options, "update"])
    call(["apt-get", *options, "install", "-y", "--no-install-recommends", *missing], environment=quiet)
