"""A driver that hangs is ended and started again; a signal ends it in every phase."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from minio import Minio
from pipeline import Checkpoint, Pipeline

from data_platform_core.topology import Topology
from embedded_stack import api
from embedded_stack.layout import Layout
from embedded_stack.services import STOP_SECONDS, STREAMING

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

#: Above the longest batch of these tests, seconds: a driver without progress for that long is ended.
HANG_S = 30
#: A driver's end and start on a busy machine, seconds.
RESTARTED_WITHIN_S = 400


@pytest.fixture(scope="module")
def impatient(pipeline: Pipeline) -> Iterator[Pipeline]:
    """A driver that exits after HANG_S without progress."""
    pipeline.start_streaming({"CRM_INGEST__HANG_S": str(HANG_S)})
    yield pipeline
    pipeline.start_streaming()


def driver(pipeline: Pipeline) -> psutil.Process:
    return psutil.Process(next(row.pid for row in api.status(pipeline.environment) if row.name == STREAMING))


def jvm(of: psutil.Process) -> psutil.Process:
    return next(child for child in of.children() if child.name() == "java")


def gone(process: psutil.Process) -> bool:
    """Whether it no longer runs; one whose parent has not waited for it is a zombie."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for(what: str, condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + RESTARTED_WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def restarted(pipeline: Pipeline, before: psutil.Process) -> Callable[[], bool]:
    """Whether another driver than `before` streams."""

    def check() -> bool:
        row = next(row for row in api.status(pipeline.environment) if row.name == STREAMING)
        return row.pid not in (0, before.pid) and row.problem is None

    return check


def log_of(topology: Topology) -> str:
    return (Layout(topology).logs / f"{STREAMING}.log").read_text(encoding="utf-8")


def accounted(pipeline: Pipeline, run: str, folder: Path) -> None:
    pipeline.drain()
    pipeline.load_and_build()
    report = pipeline.reconcile(run, folder / "report.json")
    assert report["code"] == 0, report["printed"]


def test_a_driver_whose_jvm_is_frozen_in_a_batch_is_killed_and_resumes(
    impatient: Pipeline, stack: Topology, store: Minio, tmp_path: Path
) -> None:
    run = "faults-frozen-jvm"
    bucket = impatient.settings("streaming").object_store.lake_bucket
    before = driver(impatient)
    frozen = jvm(before)
    with impatient.generating(run, seconds=60, rate=50):
        time.sleep(5)
        Checkpoint(store, bucket, "events").wait_for_batch_under_way(timeout_s=150)
        frozen.suspend()
        wait_for("the driver is started again", restarted(impatient, before))
    assert gone(frozen), "a frozen JVM that is let go would write beside the next driver"
    assert "driver hangs, ending it" in log_of(stack)
    accounted(impatient, run, tmp_path)


def test_a_driver_does_not_survive_its_jvm(impatient: Pipeline, stack: Topology) -> None:
    before = driver(impatient)
    jvm(before).kill()
    wait_for("the driver is started again", restarted(impatient, before))
    assert "error: Spark's JVM has ended" in log_of(stack)


def test_sigterm_ends_a_driver_whose_jvm_is_frozen(impatient: Pipeline, stack: Topology) -> None:
    before = driver(impatient)
    frozen = jvm(before)
    frozen.suspend()
    try:
        impatient.stop_streaming()
        assert gone(before)
        # Killed by now, but freeing gigabytes takes a while; the next driver waits for that by its lease.
        wait_for("the frozen JVM goes", lambda: gone(frozen))
        assert "driver has not ended in time" in log_of(stack), "the supervisor had to kill it"
    finally:
        impatient.start_streaming({"CRM_INGEST__HANG_S": str(HANG_S)})


def test_sigterm_ends_a_driver_while_it_starts(impatient: Pipeline, stack: Topology) -> None:
    before = driver(impatient)
    before.send_signal(signal.SIGTERM)
    before.wait(STOP_SECONDS[STREAMING])
    ready = f"http://{stack.metrics.streaming.address}/readyz"

    def starts() -> bool:
        try:
            return "starting" in httpx.get(ready, trust_env=False).text
        except httpx.HTTPError:
            return False

    wait_for("the supervisor starts it again", starts)
    starting = driver(impatient)
    starting.send_signal(signal.SIGTERM)
    starting.wait(STOP_SECONDS[STREAMING] / 2)  # not by force
    wait_for("the driver is started again", restarted(impatient, starting))
