"""Progress of a command: each step with the seconds since it began."""

from __future__ import annotations

import sys
import time

from rich.console import Console

# Piped, rich would squeeze tables into 80 columns.
console = Console(width=None if sys.stdout.isatty() else 120)


class Clock:
    """Called with a step, prints it with the seconds since the command began."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def __call__(self, text: str) -> None:
        console.print(f"[dim]{self.seconds:6.1f} s[/dim]  {text}", highlight=False, soft_wrap=True)
