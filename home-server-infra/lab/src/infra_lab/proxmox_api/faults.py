"""Injected failures: the next clone, start or resize fails, as with a full storage or a busy host.

The order is a file, so that a command beside the running server can give it.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Kind of task -> its exit status; the texts are Proxmox's for likely causes.
FAILURES = {
    "clone": "clone failed: copy failed: no space left on device",
    "start": "start failed: command '/usr/bin/kvm' failed: got timeout",
    "resize": "unable to resize volume: insufficient free space",
    "stop": "VM quit/powerdown failed - got timeout",
    "destroy": "lvremove failed: device or resource busy",
}
#: The next task of any kind.
NEXT = "next"


class Faults:
    """Scheduled failures in one file, `{kind: count}`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def order(self, kind: str, count: int) -> None:
        """The next `count` tasks of this kind fail; 0 cancels."""
        with self._orders() as orders:
            orders[kind] = count

    def ordered(self) -> dict[str, int]:
        """The remaining failures."""
        with self._orders() as orders:
            return dict(orders)

    def take(self, kind: str) -> str | None:
        """The failure of this task, or None; each scheduled failure is used once."""
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
