"""Runs programs: returns their output, or raises an error of one line."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from data_platform_core.errors import ServiceError

_LAST_WORDS = 400


def call(
    arguments: Sequence[str],
    *,
    stdin: str = "",
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float | None = 900,
) -> str:
    """Run a program and return its output. Raises ServiceError with the end of the output when it fails."""
    try:
        done = subprocess.run(
            arguments,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd=folder,
            env=environment,
            timeout=timeout_s,
        )
    except FileNotFoundError as error:
        raise ServiceError(f"program {arguments[0]} is missing; install it, or put it on PATH") from error
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"`{_shown(arguments)}` did not end in {timeout_s:g} s") from error
    if done.returncode:
        words = last_words(done.stderr or done.stdout)
        raise ServiceError(f"`{_shown(arguments)}` ended with {done.returncode}: {words}")
    return done.stdout


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Programs started inside get Ctrl-C only once they call `accept_interrupts`, as our command lines do first.

    Until then Python imports modules for up to seconds, and would answer Ctrl-C with a traceback. A program that never
    calls it is ended by whoever started it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def accept_interrupts() -> None:
    """Raises KeyboardInterrupt if Ctrl-C was pressed while they were held."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def succeeds(arguments: Sequence[str]) -> bool:
    """Whether the program exits with 0; its output is discarded."""
    return subprocess.run(arguments, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode == 0


def last_words(output: str) -> str:
    """The end of a program's output, on one line."""
    return " | ".join(output.strip()[-_LAST_WORDS:].splitlines())


def _shown(arguments: Sequence[str]) -> str:
    return " ".join((Path(arguments[0]).name, *arguments[1:]))
