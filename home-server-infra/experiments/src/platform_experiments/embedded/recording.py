"""A flight recording (JFR) of a JVM of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_platform_core.commands import call

_NAME = "bench"


@contextmanager
def recorded(pid: int, path: Path) -> Iterator[None]:
    """What the JVM does inside the block, in `path`. Raises ServiceError when it can't be attached to."""
    call(["jcmd", str(pid), "JFR.start", f"name={_NAME}", "settings=profile"])
    try:
        yield
        path.parent.mkdir(parents=True, exist_ok=True)
        call(["jcmd", str(pid), "JFR.dump", f"name={_NAME}", f"filename={path}"])
    finally:
        call(["jcmd", str(pid), "JFR.stop", f"name={_NAME}"])
