"""What every part of the bench shares: the rows of the result, CPU seconds, traffic, and waiting for the drain."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
from rich.console import Console
from rich.table import Table

from data_platform_core.commands import call, command_path
from data_platform_core.errors import ServiceError
from embedded_stack import api
from embedded_stack.services import STREAMING
from platform_experiments import steps
from platform_experiments.latency import Latency

#: A topology of its own, which every bench begins anew.
ENVIRONMENT = "bench"
#: The entity that is measured; the others flow beside it.
ENTITY = "events"
DRAIN_SECONDS = 600
#: Records/s at which latency is measured.
LATENCY_RATES = (100, 3000)
GENERATOR = command_path("crm-generator")

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True)
class Measured:
    """One row of the result. Cores are CPU seconds per second of the measurement; None where nothing was running."""

    what: str
    value: str
    consumer_cores: float | None
    producer_cores: float | None


def print_table(title: str, rows: Iterable[Measured]) -> None:
    """The result of one part."""
    table = Table(title=f"{title}; {os.cpu_count()} cores, everything on this machine")
    for column in ("what", "measured", "consumer cores", "producer cores"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(row.what, row.value, _cores(row.consumer_cores), _cores(row.producer_cores))
    console.print(table)


def _cores(cores: float | None) -> str:
    return "-" if cores is None else f"{cores:.2f}"


def told(latency: Latency) -> str:
    """A latency in one line."""
    return (
        f"p50 {latency.p50:.2f} s, p95 {latency.p95:.2f} s, p99 {latency.p99:.2f} s, most {latency.highest:.2f} s "
        f"({latency.records:,} records in {latency.commits} commits)"
    )


def generate(run_id: str, rate: int, seconds: int) -> float:
    """Send the normal scenario at a constant rate; returns the generator's CPU seconds."""
    return _generator("normal", "--run-id", run_id, "--rate", str(rate), "--flat", "--duration", str(seconds))


def flood(run_id: str, records: int) -> float:
    """Send unique good records of ENTITY as fast as the brokers take them; returns the generator's CPU seconds."""
    return _generator("flood", "--run-id", run_id, "--entity", ENTITY, "--count", str(records))


def _generator(*arguments: str) -> float:
    before = children_cpu()
    call([GENERATOR, *arguments, "--env", ENVIRONMENT, "--metrics-port", "0", "--quiet"])
    return children_cpu() - before


def drain() -> float:
    """Seconds until bronze and silver hold what the topics hold."""
    return steps.drain(ENVIRONMENT, DRAIN_SECONDS)


def driver_processes() -> list[psutil.Process]:
    """The streaming driver: Python and its JVM. Raises ServiceError when it does not run."""
    pid = next(row.pid for row in api.status(ENVIRONMENT) if row.name == STREAMING)
    if not pid:
        raise ServiceError(f"the streaming driver does not run; `make logs SERVICE={STREAMING} ENV={ENVIRONMENT}`")
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """User and system seconds that `processes` have used so far."""
    times = [process.cpu_times() for process in processes]
    return float(sum(time_.user + time_.system for time_ in times))


def children_cpu() -> float:
    """User and system seconds of this process's children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


@contextmanager
def paused_driver() -> Iterator[None]:
    """Stop the driver's processes where they are, so that a backlog meets a warm driver."""
    processes = driver_processes()
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()
