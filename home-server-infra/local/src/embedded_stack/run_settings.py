"""Settings of a run: variables that override a service's own for the duration of the run.

A service that supports them is started as `python -m embedded_stack.run_settings <file> <command>`: the file's
variables are added to the environment and the command replaces this process, so that the supervisor controls the
service itself. The file remains until the next plain start: a service that crashes during a run restarts under the
run's settings. Secrets are in their own files, which a run never writes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_platform_core.secret_files import write_secret


def under(file: Path, command: Sequence[str]) -> tuple[str, ...]:
    """The command that starts with the settings of `file` at that time."""
    return (sys.executable, "-m", "embedded_stack.run_settings", str(file), *command)


def read(file: Path) -> dict[str, str]:
    """The current variables; none without a file."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def keep(file: Path, settings: Mapping[str, str]) -> bool:
    """Set `settings` for the next start; empty settings remove the file. Returns whether anything changed."""
    if read(file) == settings:
        return False
    if settings:
        write_secret(file, json.dumps(dict(settings), indent=1) + "\n")
    else:
        file.unlink(missing_ok=True)
    return True


def main() -> None:
    """Replace this process with the command."""
    file, *command = sys.argv[1:]
    os.execve(command[0], command, {**os.environ, **read(Path(file))})


if __name__ == "__main__":
    main()
