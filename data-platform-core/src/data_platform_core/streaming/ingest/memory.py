"""Memory available to this process: the machine's, or its control group's if that is less."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from data_platform_core.lake.session import jvm_process

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Classes, compiled code, threads and buffers of a Spark JVM (measured: a driver of 2,048 MB heap has 2.6 GB at most).
_BESIDE_HEAP_MB = 640
_GROUPS = Path("/sys/fs/cgroup")
#: Files of a control group by the kernel's interface: limit, use, and the line of memory.stat with reclaimable bytes.
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def available_bytes() -> int:
    """Bytes that this process and its children can still allocate before the kernel kills a process."""
    own = Path("/proc/self/cgroup").read_text(encoding="ascii") if Path("/proc/self/cgroup").is_file() else ""
    return min((psutil.virtual_memory().available, *group_headrooms(own, _GROUPS)))


def group_headrooms(membership: str, root: Path) -> Iterator[int]:
    """Free bytes of each control group of the process and of its ancestors. `membership` is /proc/self/cgroup."""
    for line in membership.splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, names = (root / "memory", _V1) if controllers else (root, _V2)
        # Inside a container the path may be the host's. Then the mount's root is the container's group.
        for folder in (base / path.strip("/"), *(base / path.strip("/")).parents):
            left = _headroom(folder, names)
            if left is not None:
                yield left
            if folder == base:
                break


def _headroom(folder: Path, names: tuple[str, str, str]) -> int | None:
    limit_name, used_name, reclaimable_name = names
    try:
        limit = (folder / limit_name).read_text(encoding="ascii").strip()
        used = int((folder / used_name).read_text(encoding="ascii"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(0, int(limit) - used + int(stat.get(reclaimable_name, 0)))


def free_beside_jvm(spark: SparkSession, heap_mb: int) -> int:
    """`available_bytes` less what Spark's JVM may still allocate: its heap of `heap_mb` and its off-heap memory."""
    try:
        jvm = jvm_process(spark)
        taken = jvm.memory_info().rss if jvm else 0
    except psutil.Error:
        taken = 0
    return available_bytes() - max(0, (heap_mb + _BESIDE_HEAP_MB) * 2**20 - taken)
