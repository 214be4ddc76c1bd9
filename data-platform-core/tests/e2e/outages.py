"""What the tests of outages and faults share: a service's state, and waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from data_platform_core.topology import load_topology
from embedded_stack import api
from embedded_stack.layout import Layout
from embedded_stack.services import STREAMING

#: A driver's start on a busy machine, and its longest pauses: for a broken test to end.
BACK_WITHIN_S = 600


def status(environment: str, service: str) -> api.ServiceStatus:
    return next(row for row in api.status(environment) if row.name == service)


def driver(environment: str) -> api.ServiceStatus:
    return status(environment, STREAMING)


def deaths(environment: str) -> int:
    """How often the driver has ended, by the supervisor's log."""
    log = (Layout(load_topology(environment)).logs / "supervisord.log").read_text(encoding="utf-8")
    return log.count(f"exited: {STREAMING} ")


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float) -> float:
    """Seconds until the condition held."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            pytest.fail(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.5)
    return time.monotonic() - began


def wait_until_ready(environment: str) -> float:
    """Seconds until the driver runs its queries and no longer waits."""
    return wait_for("the driver is ready", lambda: driver(environment).problem is None, BACK_WITHIN_S)
