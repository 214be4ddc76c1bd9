"""Failures on order: the next clone, start or resize ends in an error, as a full storage or a busy host would make it.

The order is a file, so that a command beside the running server can give it.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Kind of task -> what its exit status says; the texts are Proxmox's for likely causes.
FAILURES = {
    "clone": "clone failed: copy failed: no space left on device",
    "start": "start failed: command '/usr/bin/kvm' failed: got timeout",
    "resize": "unable to resize volume: insufficient free space",
    "stop": "VM quit/powerdown failed - got timeout",
    "destroy": "lvremove failed: device or resource busy",
}
#: Whatever comes next.
NEXT = "next"


class Faults:
    """Ordered failures in one file, `{kind: count}`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def order(self, kind: str, count: int) -> None:
        """The next `count` tasks of this kind fail; 0 takes the order back."""
        with self._orders() as orders:
            orders[kind] = count

    def ordered(self) -> dict[str, int]:
        """What is still to fail."""
        with self._orders() as orders:
            return dict(orders)

    def take(self, kind: str) -> str | None:
        """The failure this task has to end in, or None; each order is used up once."""
        with self._orders() as orders:
            for ordered in (kind, NEXT):
                if orders.get(ordered, 0) > 0:
                    orders[ordered] -= 1
                    return FAILURES[kind]
        return None

    @contextmanager
    def _orders(self) -> Iterator[dict[str, int]]:
        """Read, changed and written under a lock: server and command line are two processes."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            orders: dict[str, int] = json.loads(file.read() or "{}")
            yield orders
            file.seek(0)
            file.truncate()
            json.dump({kind: count for kind, count in orders.items() if count > 0}, file)
