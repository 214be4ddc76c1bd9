"""The supervisor's back-off: capped, unlimited in attempts, and shown; also against a real supervisord."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from supervisor import events

from data_platform_core.topology import Endpoint
from embedded_stack import api
from embedded_stack.backoff import MAX_BACKOFF_SECONDS, BackoffInterface, make_interface
from embedded_stack.layout import MARKER_VARIABLE, Layout
from embedded_stack.service import Profile, Service
from embedded_stack.supervision import Supervisor

pytestmark = pytest.mark.unit


@pytest.fixture
def interface() -> Iterator[BackoffInterface]:
    known = list(events.callbacks)
    yield make_interface(None)
    events.callbacks[:] = known


def fail(process: Any) -> None:
    """What supervisord does when a start fails."""
    process.backoff += 1
    process.delay = time.time() + process.backoff
    events.notify(events.ProcessStateBackoffEvent(process, None))


@pytest.fixture
def process() -> Any:
    return SimpleNamespace(backoff=0, delay=0.0, pid=0, config=SimpleNamespace(name="minio"), group=None)


def test_the_wait_stops_growing_and_supervisords_count_never_reaches_its_limit(
    interface: BackoffInterface, process: Any
) -> None:
    waits = []
    for _ in range(3 * MAX_BACKOFF_SECONDS):
        fail(process)
        waits.append(round(process.delay - time.time()))
        assert process.backoff <= MAX_BACKOFF_SECONDS, "beyond `startretries` it would be FATAL"
    assert waits[:3] == [1, 2, 3]
    assert set(waits[MAX_BACKOFF_SECONDS:]) == {MAX_BACKOFF_SECONDS}
    assert interface.getFailedStarts() == {"minio": [3 * MAX_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS]}


@pytest.mark.parametrize("settled", [events.ProcessStateRunningEvent, events.ProcessStateStoppedEvent])
def test_a_service_that_runs_or_was_stopped_starts_over(
    interface: BackoffInterface, process: Any, settled: type[Any]
) -> None:
    for _ in range(9):
        fail(process)
    events.notify(settled(process, None))
    assert interface.getFailedStarts() == {}
    fail(process)
    assert round(process.delay - time.time()) == 1


def crashing(layout: Layout) -> Service:
    """A service that prints why it can't run, until a file exists."""
    mended = f"pathlib.Path({str(layout.root / 'mended')!r}).exists()"
    # One line, and no blank before a semicolon: supervisord would treat the rest as a comment.
    program = f"import pathlib, sys, time;{mended} or sys.exit('the disk is full');time.sleep(600)"
    return Service(
        name="crashing",
        profile=Profile.CORE,
        command=(sys.executable, "-c", program),
        endpoints=(Endpoint(host="127.0.0.1", port=1),),
        healthy=lambda: None,
        memory_mb=16,
        stop_seconds=5,
        environment={MARKER_VARIABLE: layout.marker},
    )


@pytest.fixture
def supervisor(layout: Layout) -> Iterator[Supervisor]:
    layout.logs.mkdir(parents=True)
    running = Supervisor(layout)
    running.launch((crashing(layout),))
    yield running
    running.shutdown()


def wait_until(supervisor: Supervisor, state: str, failed_starts: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        found = supervisor.processes()["crashing"]
        if found.state == state and found.failed_starts >= failed_starts:
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def test_a_real_service_that_fails_is_tried_again_shown_and_stopped_and_started_at_once(
    layout: Layout, supervisor: Supervisor
) -> None:
    supervisor.start("crashing")
    wait_until(supervisor, "BACKOFF", 2)
    row = api._status_of(layout, crashing(layout), supervisor.processes()["crashing"])
    assert row.problem is not None
    assert "failed starts, the next in" in row.problem
    assert "the disk is full" in row.problem
    supervisor.stop("crashing")
    assert supervisor.processes()["crashing"].state == "STOPPED"
    supervisor.start("crashing")
    wait_until(supervisor, "BACKOFF", 2)
    (layout.root / "mended").touch()
    supervisor.start("crashing")  # not after the wait: now
    wait_until(supervisor, "RUNNING", 0)
    assert supervisor.processes()["crashing"].failed_starts == 0
