"""What every experiment does with the platform: call its commands, wait until the stream has committed everything."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from data_platform_core.contracts import load_contracts
from data_platform_core.errors import ServiceError
from data_platform_core.settings import load_settings

_LAST_WORDS = 400


def checked(arguments: Sequence[str]) -> str:
    """Run a command to its end and return its output. Raises ServiceError with its last words when it fails."""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip()[-_LAST_WORDS:]
        raise ServiceError(f"`{' '.join((Path(arguments[0]).name, *arguments[1:]))}` failed: {words}")
    return done.stdout


def drain(environment: str, timeout_s: float) -> float:
    """Seconds until bronze and silver hold what the topics hold. Raises ServiceError after `timeout_s`."""
    from data_platform_core.accounting.liveness import wait_until_drained

    drained = wait_until_drained(load_settings("accounting", environment), load_contracts(), timeout_s)
    if drained.waiting:
        raise ServiceError(
            f"not drained after {timeout_s:g} s: {dict(drained.waiting)}; the stream is too slow or down"
        )
    return drained.seconds
