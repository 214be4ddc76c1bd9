"""`make bench`: what streaming sustains from a backlog, and how long a record takes to silver.

A benchmark, not a test: it asserts nothing. The driver is warm (a spell of the fastest traffic first), and everything
shares the machine: three brokers, object store, generator and Spark.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from data_platform_core.accounting.latency import Latency, silver_latency
from data_platform_core.accounting.liveness import wait_until_drained
from data_platform_core.accounting.objects import s3_client
from data_platform_core.contracts import load_contracts
from data_platform_core.errors import ServiceError
from data_platform_core.settings import load_settings
from embedded_stack import api
from embedded_stack.services import STREAMING

_GENERATOR = Path(sys.executable).parent / "crm-generator"
#: A topology of its own, which every bench begins anew.
_ENVIRONMENT = "bench"
_ENTITY = "events"
_WARM_UP_SECONDS = 90
_WARM_UP_RATE = 3000
_LATENCY_SECONDS = 90
_LATENCY_RATES = (100, 3000)
_DRAIN_SECONDS = 600

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True)
class Measured:
    """One row of the result. `driver_cores` and `generator_cores` are CPU seconds per second of the measurement."""

    what: str
    value: str
    driver_cores: float
    generator_cores: float | None


def run(backlog: int) -> None:
    """Measure on a fresh stack, print one table, and take the stack down again."""
    environment = _ENVIRONMENT
    api.down(environment)
    api.clean(environment)
    console.print(f"bench: a fresh stack in {environment}, {os.cpu_count()} cores; about 8 minutes")
    api.up(environment)
    try:
        api.start(environment, STREAMING)
        console.print(f"warming the driver: {_WARM_UP_SECONDS} s at {_WARM_UP_RATE}/s")
        _generate(environment, "bench-warm-up", _WARM_UP_RATE, _WARM_UP_SECONDS)
        _drain(environment)
        rows = [_latency(environment, rate) for rate in _LATENCY_RATES]
        rows.append(_backlog(environment, backlog))
    finally:
        api.down(environment)
    _print(rows)


def _latency(environment: str, rate: int) -> Measured:
    console.print(f"latency: {_LATENCY_SECONDS} s at {rate}/s")
    run_id = f"bench-latency-{rate}"
    since, began = datetime.now(UTC), time.monotonic()
    driver = _driver_cpu(environment)
    generator_cpu = _generate(environment, run_id, rate, _LATENCY_SECONDS)
    seconds = time.monotonic() - began
    driver = _driver_cpu(environment) - driver
    _drain(environment)
    store = load_settings("accounting", environment).object_store
    latency = silver_latency(s3_client(store), store.lake_bucket, _ENTITY, run_id, since)
    if latency is None:
        raise ServiceError(f"run {run_id} left no {_ENTITY} in silver; `make logs SERVICE={STREAMING}` tells why")
    return Measured(f"produced to silver at {rate}/s", _told(latency), driver / seconds, generator_cpu / seconds)


def _told(latency: Latency) -> str:
    return (
        f"p50 {latency.p50:.2f} s, p95 {latency.p95:.2f} s, p99 {latency.p99:.2f} s, most {latency.highest:.2f} s "
        f"({latency.records:,} records in {latency.commits} commits)"
    )


def _backlog(environment: str, records: int) -> Measured:
    console.print(f"backlog: {records:,} {_ENTITY} while the driver is paused, then all at once")
    with _paused_driver(environment):
        command = [str(_GENERATOR), "flood", "--env", environment, "--entity", _ENTITY, "--count", str(records)]
        _checked([*command, "--run-id", "bench-backlog", "--metrics-port", "0", "--quiet"])
    driver, began = _driver_cpu(environment), time.monotonic()
    seconds = _drain(environment)
    driver = _driver_cpu(environment) - driver
    value = f"{records / seconds:,.0f} records/s ({seconds:.1f} s until bronze and silver had them)"
    return Measured(f"backlog of {records:,} {_ENTITY}", value, driver / (time.monotonic() - began), None)


def _generate(environment: str, run_id: str, rate: int, seconds: int) -> float:
    """Send the normal scenario at a constant rate; returns the generator's CPU seconds."""
    before = _children_cpu()
    command = [str(_GENERATOR), "normal", "--env", environment, "--run-id", run_id, "--rate", str(rate), "--flat"]
    _checked([*command, "--duration", str(seconds), "--metrics-port", "0", "--quiet"])
    return _children_cpu() - before


def _checked(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()[-300:]}")


def _drain(environment: str) -> float:
    """Seconds until bronze and silver hold what the topics hold."""
    drained = wait_until_drained(load_settings("accounting", environment), load_contracts(), _DRAIN_SECONDS)
    if drained.waiting:
        raise ServiceError(
            f"not drained after {_DRAIN_SECONDS} s: {dict(drained.waiting)}; the stream is too slow or down"
        )
    return drained.seconds


def _driver(environment: str) -> list[psutil.Process]:
    pid = next(row.pid for row in api.status(environment) if row.name == STREAMING)
    if not pid:
        raise ServiceError(f"the streaming driver does not run; `make logs SERVICE={STREAMING} ENV={environment}`")
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _driver_cpu(environment: str) -> float:
    times = [process.cpu_times() for process in _driver(environment)]
    return float(sum(time_.user + time_.system for time_ in times))


def _children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


@contextmanager
def _paused_driver(environment: str) -> Iterator[None]:
    """Stop the driver's processes where they are, so that a backlog meets a warm driver."""
    processes = _driver(environment)
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def _print(rows: list[Measured]) -> None:
    table = Table(title=f"streaming on {os.cpu_count()} cores, warm driver, everything on this machine")
    for column in ("what", "measured", "driver cores", "generator cores"):
        table.add_column(column, overflow="fold")
    for row in rows:
        generator = "-" if row.generator_cores is None else f"{row.generator_cores:.2f}"
        table.add_row(row.what, row.value, f"{row.driver_cores:.2f}", generator)
    console.print(table)
