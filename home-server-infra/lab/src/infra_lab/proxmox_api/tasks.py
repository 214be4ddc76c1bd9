"""Tasks of a Proxmox host: they continue after the call has returned their UPID, and end with a status."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from infra_lab.proxmox_api.errors import PveError

_log = structlog.get_logger(__name__)
OK = "OK"


@dataclass
class Task:
    """`exit_status` is None while it runs, `OK`, or the error."""

    upid: str
    node: str
    kind: str
    subject: str
    user: str
    began: int
    exit_status: str | None = None
    log: list[str] = field(default_factory=list)

    def status(self) -> dict[str, object]:
        """As `GET /nodes/{node}/tasks/{upid}/status` answers."""
        row: dict[str, object] = {
            "upid": self.upid, "node": self.node, "type": self.kind, "id": self.subject, "user": self.user,
            "starttime": self.began, "pid": int(self.upid.split(":")[2], 16),
            "status": "running" if self.exit_status is None else "stopped",
        }  # fmt: skip
        return row if self.exit_status is None else {**row, "exitstatus": self.exit_status}


class TaskList:
    """Every task since the server began."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._threads: list[threading.Thread] = []

    def begin(self, node: str, kind: str, vmid: int, user: str, action: Callable[[], None]) -> str:
        """Run `action` in the background; returns the UPID at once."""
        now = int(time.time())
        numbers = f"{random.getrandbits(22):08X}:{random.getrandbits(28):08X}:{now:08X}"
        task = Task(f"UPID:{node}:{numbers}:{kind}:{vmid}:{user}:", node, kind, str(vmid), user, now)
        self._tasks[task.upid] = task
        thread = threading.Thread(target=self._run, args=(task, action), daemon=True, name=task.upid)
        self._threads.append(thread)
        thread.start()
        return task.upid

    def get(self, node: str, upid: str) -> Task:
        """Raises PveError 500 when there is none."""
        task = self._tasks.get(upid)
        if task is None or task.node != node:
            raise PveError(500, f"unable to parse worker upid '{upid}'" if ":" not in upid else "no such task")
        return task

    def all(self, node: str) -> list[Task]:
        """The newest first."""
        return [task for task in reversed(self._tasks.values()) if task.node == node]

    def wait(self, timeout_s: float = 30) -> None:
        """Wait until none runs; for tests and for the end of the server."""
        for thread in self._threads:
            thread.join(timeout_s)

    def _run(self, task: Task, action: Callable[[], None]) -> None:
        try:
            action()
            task.log.append("TASK OK")
            task.exit_status = OK
        except Exception as error:  # any error of a task becomes its exit status, as on a real host
            words = " ".join(str(error).split()) or type(error).__name__
            task.log.append(f"TASK ERROR: {words}")
            task.exit_status = words
        _log.info("task_end", kind=task.kind, vm=task.subject, status=task.exit_status)
