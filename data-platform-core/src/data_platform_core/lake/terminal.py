"""Keeps Spark's own log lines off a person's terminal: the JVM writes beside it, into a file."""

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

    It keeps the file for its life; this process has its terminal back afterwards. Where stderr is no terminal all
    stays together: there it is the log.
    """
    if not sys.stderr.isatty():
        yield
        return
    with outputs_to(writable_folder(settings.data_path / "logs") / f"{app_name}.log"):
        yield


@contextmanager
def outputs_to(path: Path) -> Iterator[None]:
    """Standard output and error, as children started now inherit them, go to the end of `path`."""
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
