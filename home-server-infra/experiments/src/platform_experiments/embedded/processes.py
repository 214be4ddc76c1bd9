"""Processes of this machine: who belongs to a service, what they use, and holding them still."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from platform_experiments.runtime import Process

_MB = 2**20
#: Linux keeps 15 characters of a thread's name.
_COMPILERS = re.compile(r"C[12] CompilerThre")
_EXECUTOR = "CoarseGrainedExecutorBackend"


def family(pid: int) -> list[psutil.Process]:
    """A process and its children at any depth; empty when it has ended."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def executors(workers: Iterable[int]) -> list[psutil.Process]:
    """The JVM of each executor that the workers, by their pid, have started."""
    return [child for worker in workers for child in family(worker)[1:] if _is_executor(child)]


def _is_executor(process: psutil.Process) -> bool:
    try:
        return any(_EXECUTOR in part for part in process.cmdline())
    except psutil.Error:
        return False


def described(processes: Iterable[psutil.Process]) -> list[Process]:
    """What each uses; those that have ended meanwhile are left out."""
    return [found for process in processes if (found := _described(process)) is not None]


def _described(process: psutil.Process) -> Process | None:
    try:
        times = process.cpu_times()
        return Process(
            id=f"{process.pid}@{process.create_time()}",
            program=process.name(),
            cpu_s=times.user + times.system,
            memory_mb=process.memory_info().rss / _MB,
            peak_mb=_peak_mb(process.pid),
            compiler_s=_compiler_s(process),
        )
    except (psutil.Error, OSError):
        return None


def _peak_mb(pid: int) -> float:
    """The most resident memory that the process ever had; nan for one that is ending and has none."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else float("nan")


def _compiler_s(process: psutil.Process) -> float:
    """CPU seconds of a JVM's compiler threads; of those that have ended none is left."""
    if process.name() != "java":
        return 0.0
    times = {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
    return sum(seconds for thread, seconds in times.items() if _COMPILERS.match(_thread_name(process.pid, thread)))


def _thread_name(pid: int, thread: int) -> str:
    try:
        return Path(f"/proc/{pid}/task/{thread}/comm").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended
        return ""


@contextmanager
def held_still(processes: Iterable[psutil.Process]) -> Iterator[None]:
    """Stop the processes where they are, and let them go on afterwards."""
    held = list(processes)
    for process in held:
        process.suspend()
    try:
        yield
    finally:
        for process in held:
            if process.is_running():
                process.resume()
