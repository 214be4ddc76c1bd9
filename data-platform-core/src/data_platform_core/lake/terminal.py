"""Keeps Spark's own log lines off the terminal: the JVM writes to a file instead."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_platform_core.paths import writable_folder
from data_platform_core.settings import Settings


@contextmanager
def jvm_output_aside(settings: Settings, app_name: str) -> Iterator[None]:
    """A JVM started in this context writes to `<data_path>/logs/<app_name>.log` when stderr is a terminal.

    The JVM keeps the file until it exits; this process gets its terminal back afterwards. If stderr is not a terminal,
    it is the log, and nothing is redirected.
    """
    if not sys.stderr.isatty():
        yield
        return
    with outputs_to(writable_folder(settings.data_path / "logs") / f"{app_name}.log"):
        yield


@contextmanager
def outputs_to(path: Path) -> Iterator[None]:
    """Append the standard output and error of children started in this context to `path`."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(number, os.dup(number)) for number in (1, 2)]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for number, _ in kept:
            os.dup2(descriptor, number)
        yield
    finally:
        os.close(descriptor)
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)
