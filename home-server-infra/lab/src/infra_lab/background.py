"""Processes that outlive the command that started them, with a pid file, a log and a safe stop."""

from __future__ import annotations

import contextlib
import operator
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

from data_platform_core.errors import ServiceError
from data_platform_core.waiting import ask_until

_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.1


class Background:
    """One such process, by its name in `folder`.

    The pid file has pid and start time, so that a reused pid is never mistaken for ours.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._pid_file = folder / f"{name}.pid"

    def process(self) -> psutil.Process | None:
        """The running process, or None."""
        try:
            pid, began = self._pid_file.read_text(encoding="utf-8").split()
            process = psutil.Process(int(pid))
            same = abs(process.create_time() - float(began)) < 0.05
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, psutil.Error):
            return None

    def start(self, command: Sequence[str]) -> None:
        """Start it in a new session, so that the terminal's signals don't reach it. Does nothing if it runs."""
        if self.process() is not None:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        with contextlib.suppress(psutil.Error):
            partial = self._pid_file.with_suffix(".partial")
            partial.write_text(f"{child.pid} {psutil.Process(child.pid).create_time()}\n", encoding="utf-8")
            partial.replace(self._pid_file)

    def wait_for_end(self, timeout_s: float) -> bool:
        """Whether it ended in time."""
        if ask_until(operator.not_, self.process, within_s=timeout_s, every_s=_POLL_SECONDS) is not None:
            return False
        self._pid_file.unlink(missing_ok=True)
        return True

    def stop(self, timeout_s: float = _STOP_SECONDS) -> None:
        """TERM, then KILL. Raises ServiceError if that fails too."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            process = self.process()
            if process is None:
                break
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
            if self.wait_for_end(timeout_s):
                break
        if self.process() is not None:
            raise ServiceError(f"{self.name} does not end; see {self.log}")
        self._pid_file.unlink(missing_ok=True)

    def last_words(self, lines: int = 5) -> str:
        """The end of its log, on one line."""
        try:
            return " | ".join(self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-lines:])
        except OSError:
            return "no log"
