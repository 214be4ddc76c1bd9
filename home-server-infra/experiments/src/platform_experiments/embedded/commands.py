"""Commands of an experiment as processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from data_platform_core.commands import interrupts_held, last_words
from data_platform_core.errors import ServiceError
from data_platform_core.jobs import program_path
from platform_experiments.embedded.processes import described, family, held_still
from platform_experiments.runtime import Finished, Process

#: After Ctrl-C: a generator waits for what it sent, a load for Spark to let go.
_SETTLE_SECONDS = 30
_END_SECONDS = 60


def resolved(command: Sequence[str]) -> list[str]:
    """The command with the path of its program, when it is one of ours or Python."""
    program, *arguments = command
    ours = program_path(program)
    return [ours if Path(ours).is_file() else program, *arguments]


def run(command: Sequence[str], settings: Mapping[str, str], *, check: bool) -> Finished:
    """Run to the end, under `settings`. Raises ServiceError with the last words when it fails and `check` is set."""
    reading, writing = os.pipe()
    counting = [sys.executable, "-m", "platform_experiments.embedded.counting", str(writing)]
    with os.fdopen(reading) as figures:
        process = subprocess.Popen(
            [*counting, *resolved(command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[writing],
            env={**os.environ, **settings},
        )
        os.close(writing)
        try:
            output, complaint = process.communicate()
        finally:
            _end(process)
        used = figures.read()
    if process.returncode and check:
        words = last_words(complaint or output)
        raise ServiceError(f"`{' '.join(command)}` ended with {process.returncode}: {words}")
    return Finished(process.returncode, output, float(used or "nan"))


def follow(command: Sequence[str]) -> int:
    """Run to the end with this process's own output. Ctrl-C reaches it as it reaches us: it gets time to settle."""
    with interrupts_held():
        child = subprocess.Popen(resolved(command))
    with child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            try:
                child.wait(_SETTLE_SECONDS)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                child.kill()
            raise


class Background:
    """A command in the background (`Running`), its output in a file."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command, self._log = command, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(resolved(command), stdout=output, stderr=subprocess.STDOUT)

    @property
    def place(self) -> str:
        return str(self._log)

    def exit_code(self) -> int | None:
        return self._process.poll()

    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def processes(self) -> list[Process]:
        return described(family(self._process.pid)) if self.exit_code() is None else []

    def wait(self, timeout_s: float) -> int:
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ServiceError(f"`{' '.join(self._command)}` did not end in {timeout_s:g} s; see {self._log}") from None

    def paused(self) -> AbstractContextManager[None]:
        return held_still(family(self._process.pid))

    def end(self) -> None:
        _end(self._process)


def _end(process: subprocess.Popen[Any]) -> None:
    """Ask it to end, make it end after _END_SECONDS; nothing when it has ended."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
