"""Identifies processes of this machine, so that another process can prove that they have ended.

A process id alone proves nothing: it is reused, and identifies another process on another machine or in another
container. Together with the kernel's boot id, the PID namespace and the start time it is unique.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_PROC = Path("/proc")
#: Fields of /proc/<pid>/stat after the name in brackets: the state, and the start in clock ticks since boot.
_STATE, _STARTED = 0, 19
_ENDED = frozenset("ZXx")  # zombie or dead: no longer running


class ProcessMark(BaseModel):
    """One process; `started` in clock ticks since boot, independent of clock changes."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: int


def kernel_mark() -> str:
    """The kernel's boot id and this process's PID namespace; empty if the system hides them."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def process_mark(pid: int) -> ProcessMark | None:
    """The mark of a running process; None if it does not run or the system hides it."""
    found = _stat(pid)
    return None if found is None or found[0] in _ENDED else ProcessMark(pid=pid, started=found[1])


def all_ended(kernel: str, marks: Iterable[ProcessMark]) -> bool:
    """Whether all these processes, of the kernel with that mark, are proven to have ended.

    False for processes of another machine or container: nothing can be proven about them here.
    """
    known = tuple(marks)
    if not kernel or not known or kernel != kernel_mark():
        return False
    return all(_ended(mark) for mark in known)


def _ended(mark: ProcessMark) -> bool:
    try:
        os.kill(mark.pid, 0)  # sends nothing; also finds a process that /proc hides from us
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    found = _stat(mark.pid)
    return found is not None and (found[0] in _ENDED or found[1] != mark.started)


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start time of a process; None if they can't be read."""
    try:
        # The name may hold spaces and brackets: the fields come after its last bracket.
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[_STATE], int(fields[_STARTED])
