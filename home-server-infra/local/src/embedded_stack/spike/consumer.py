"""The consumer under test: the streaming driver with an arm's settings, on the standalone cluster of small workers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from data_platform_core.errors import ServiceError
from embedded_stack import api, health
from embedded_stack.layout import MARKER_VARIABLE, Layout
from embedded_stack.spark_cluster import MASTER, cluster_properties, cluster_services
from embedded_stack.spike.arms import Arm

#: The driver alone takes 30 s, on a busy machine much longer.
START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 60
#: Executors that the start needed and the quiet stream does not are given back within this time.
SETTLE_TIMEOUT_S = 150
_EXECUTOR = "CoarseGrainedExecutorBackend"


class Consumer:
    """A driver that runs, and its executors."""

    def __init__(self, process: subprocess.Popen[bytes], workers: list[psutil.Process]) -> None:
        self._process, self._workers = process, workers

    def driver(self) -> list[psutil.Process]:
        """Python and its JVM."""
        return _family(self._process.pid)

    def executors(self) -> list[psutil.Process]:
        """One JVM each, children of the workers."""
        found = []
        for worker in self._workers:
            for child in worker.children(recursive=True):
                try:
                    if any(_EXECUTOR in part for part in child.cmdline()):
                        found.append(child)
                except psutil.Error:
                    continue
        return found

    def require_running(self) -> None:
        """Raises ServiceError when the driver has ended."""
        if self._process.poll() is not None:
            raise ServiceError(
                f"the streaming driver ended with exit code {self._process.returncode} in mid-experiment"
            )

    def settle(self, executors: int) -> int:
        """Wait until no more than `executors` are left, so that every arm begins alike; returns how many there are."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while len(self.executors()) > executors and time.monotonic() < deadline:
            self.require_running()
            time.sleep(1)
        return len(self.executors())


@contextmanager
def consumer(layout: Layout, arm: Arm, log: Path) -> Iterator[Consumer]:
    """Start cluster and driver, wait until every query runs; on leaving, stop both. Raises ServiceError."""
    environment = layout.topology.environment
    for service in cluster_services(layout):
        api.start(environment, service.name)
    workers = [psutil.Process(row.pid) for row in api.status(environment) if _is_worker(row.name, layout)]
    spark = layout.topology.spark_cluster
    settings = {
        "CRM_SPARK__MASTER": spark.url,
        "CRM_SPARK__PROPERTIES_FILE": str(cluster_properties(layout)),
        "CRM_SPARK__EXECUTOR_MEMORY_MB": str(min(worker.memory_mb for worker in spark.workers)),
        **arm.settings,
    }
    command = [sys.executable, "-m", "data_platform_core.cli", "--env", environment, "stream", "run"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **settings, MARKER_VARIABLE: layout.marker},
        )
    try:
        _wait_until_streaming(layout, process, log)
        yield Consumer(process, workers)
    finally:
        _end(process)
        for service in reversed(cluster_services(layout)):
            api.stop(environment, service.name)


def _is_worker(name: str, layout: Layout) -> bool:
    return name != MASTER and name in {service.name for service in cluster_services(layout)}


def _wait_until_streaming(layout: Layout, process: subprocess.Popen[bytes], log: Path) -> None:
    metrics = layout.topology.metrics.streaming
    deadline = time.monotonic() + START_TIMEOUT_S
    while problem := health.streaming_driver(metrics.address):
        if process.poll() is not None:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["no output"]
            raise ServiceError(f"the streaming driver does not start: {last[0].removeprefix('error: ')} (see {log})")
        if time.monotonic() > deadline:
            raise ServiceError(f"the streaming driver is not ready after {START_TIMEOUT_S} s ({problem}); see {log}")
        time.sleep(0.5)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask first: the driver ends its queries, then its JVM."""
    family = _family(process.pid)
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for left in family:
        try:
            left.kill()
        except psutil.Error:
            continue


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def processes_of(environment: str, prefix: str) -> Iterable[psutil.Process]:
    """The processes of the stack's services whose names begin with `prefix`."""
    return [psutil.Process(row.pid) for row in api.status(environment) if row.pid and row.name.startswith(prefix)]
