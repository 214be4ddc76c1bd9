"""Shared by every part of the bench: result rows, traffic, CPU seconds, latency, and the drain."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console
from rich.table import Table

from data_platform_core.access.names import STREAMING
from data_platform_core.accounting.objects import s3_client
from data_platform_core.errors import ServiceError
from data_platform_core.settings import Settings, load_settings
from platform_experiments import steps
from platform_experiments.bench.load import Load
from platform_experiments.latency import Latency, commit_latency
from platform_experiments.runtime import Finished, Part, Process, Runtime, compiler_since, cpu_since, jvm_since

#: A separate topology, which every bench resets.
ENVIRONMENT = "bench"
#: The measured entity; the others run beside it.
ENTITY = "events"
DRAIN_SECONDS = 600
#: Records/s at which latency is measured.
LATENCY_RATES = (100, 3000)

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True)
class Measured:
    """One row of the result. Cores are CPU seconds per second of the measurement; None where nothing was running."""

    what: str
    value: str
    consumer_cores: float | None
    producer_cores: float | None


@dataclass(frozen=True)
class Used:
    """What a driver used in `seconds`: CPU seconds of all of it, of its JVM, and of the JVM's compilers."""

    seconds: float
    cpu_s: float
    jvm_s: float
    compiler_s: float

    @property
    def cores(self) -> float:
        return self.cpu_s / self.seconds

    @property
    def compilers(self) -> float:
        """The compilers' share of all CPU, 0 to 1; a warm driver is below 0.1."""
        return self.compiler_s / self.cpu_s

    def __str__(self) -> str:
        python = self.cpu_s - self.jvm_s
        return (
            f"{self.cores:.2f} cores (Python {python / self.seconds:.2f}, JVM {self.jvm_s / self.seconds:.2f}, of it "
            f"compilers {self.compiler_s / self.seconds:.2f})"
        )


@dataclass(frozen=True)
class Bench:
    """The measured platform and its amount of traffic."""

    runtime: Runtime
    load: Load

    @property
    def environment(self) -> str:
        return self.runtime.topology.environment

    def settings(self, service: str) -> Settings:
        return load_settings(service, self.environment)

    @contextmanager
    def driver(self, changes: Mapping[str, str] | None = None) -> Iterator[None]:
        """The streaming driver inside the block, under changed settings, as variables of its environment."""
        try:
            self.runtime.start(STREAMING, changes or {})
            yield
        finally:
            self.runtime.stop(STREAMING)

    def driver_processes(self) -> list[Process]:
        """Its Python and its JVM. Raises ServiceError when it does not run."""
        if found := self.runtime.processes(Part.DRIVER):
            return found
        raise ServiceError(f"the streaming driver does not run; `{self.runtime.command('logs', SERVICE=STREAMING)}`")

    def driver_use(self) -> Callable[[], Used]:
        """Begin to count; the function returned gives what the driver has used since then."""
        return use_of(self.driver_processes)

    def normal(self, run_id: str, rate: int, seconds: int) -> tuple[str, ...]:
        """The command that sends the normal scenario at a constant rate."""
        return steps.flat_traffic(self.runtime, run_id, rate, seconds, "--metrics-port", "0")

    def generate(self, run_id: str, rate: int, seconds: int) -> float:
        """Send the normal scenario at a constant rate; returns the generator's CPU seconds."""
        return self.runtime.run(self.normal(run_id, rate, seconds)).cpu_s

    def flood(self, run_id: str, records: int, *options: str, entity: str = ENTITY) -> Finished:
        """Send unique good records of an entity as fast as the brokers accept them."""
        command = ("crm-generator", "flood", "--env", self.environment, "--run-id", run_id, "--entity", entity)
        return self.runtime.run([*command, "--count", str(records), "--metrics-port", "0", *options])

    def drain(self) -> float:
        """Seconds until bronze and silver have the topics' records."""
        return steps.drain(self.runtime, DRAIN_SECONDS)

    def latency(self, folder: str, run_id: str, since: datetime) -> Latency | None:
        """Of the run's records in a table of the lake; None when it has none."""
        store = self.settings("accounting").object_store
        return commit_latency(s3_client(store), store.lake_bucket, folder, run_id, since)


def print_table(title: str, rows: Iterable[Measured]) -> None:
    """The result of one part."""
    table = Table(title=f"{title}; {os.cpu_count()} cores, everything on this machine")
    for column in ("what", "measured", "consumer cores", "producer cores"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(row.what, row.value, _cores(row.consumer_cores), _cores(row.producer_cores))
    console.print(table)


def use_of(processes: Callable[[], list[Process]]) -> Callable[[], Used]:
    """Begin to count; the function returned gives what the processes have used since then."""
    before, began = processes(), time.monotonic()

    def used() -> Used:
        now = processes()
        return Used(
            time.monotonic() - began, cpu_since(before, now), jvm_since(before, now), compiler_since(before, now)
        )

    return used


def _cores(cores: float | None) -> str:
    return "-" if cores is None else f"{cores:.2f}"


def shown(latency: Latency) -> str:
    """A latency in one line."""
    return (
        f"p50 {latency.p50:.2f} s, p95 {latency.p95:.2f} s, p99 {latency.p99:.2f} s, most {latency.highest:.2f} s "
        f"({latency.records:,} records in {latency.commits} commits)"
    )
