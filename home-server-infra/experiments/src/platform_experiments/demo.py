"""`make demo`: traffic through the whole platform, then the reconciliation of every record.

Each step is a command that users can run themselves; it is shown before it runs.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console

from data_platform_core.access.names import STREAMING
from data_platform_core.errors import ServiceError
from data_platform_core.jobs import job
from platform_experiments.runtime import Runtime

_DRAIN_SECONDS = 300

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Step:
    """A command of the demo and what it does. A `quiet` one prints nothing unless something fails."""

    what: str
    command: tuple[str, ...]
    quiet: bool = False


def steps(environment: str, run_id: str, seconds: int) -> tuple[Step, ...]:
    """The steps of a run once the platform is up, in order; the last one reconciles it."""

    def command(name: str, *options: str, run_id: str | None = None) -> tuple[str, ...]:
        return job(name).in_environment(environment, *options, run_id=run_id)

    return (
        Step(
            f"{seconds} s of normal traffic",
            command("generate-normal", "--duration", str(seconds), run_id=run_id),
        ),
        Step(
            "wait until the stream has committed all of it",
            command("drain", "--timeout", str(_DRAIN_SECONDS)),
        ),
        Step("load silver into PostgreSQL", command("load-warehouse")),
        Step("build and test the marts", command("build-marts", "--quiet"), quiet=True),
        Step("account for every record", command("reconcile", run_id=run_id)),
    )


def run(runtime: Runtime, seconds: int) -> int:
    """Run the demo for `seconds` of traffic. Returns reconcile's exit code; the platform stays up.

    Raises ServiceError naming the step that failed, or when a demo of this environment is under way.
    """
    try:
        with _only_demo(runtime):
            return _run(runtime, seconds)
    except KeyboardInterrupt:
        console.print(f"\ninterrupted; what is up stays up, `{runtime.command('down')}` stops it")
        raise


@contextmanager
def _only_demo(runtime: Runtime) -> Iterator[None]:
    """Lock: two demos would load and build the same tables concurrently. Raises ServiceError for the second."""
    runtime.folder.mkdir(parents=True, exist_ok=True)
    with (runtime.folder / "demo.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ServiceError(
                f"a demo of environment {runtime.topology.environment} runs already (pid "
                f"{lock.read().strip() or 'unknown'}); wait for its end, or stop it with Ctrl-C"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _run(runtime: Runtime, seconds: int) -> int:
    run_id = f"demo-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    began = time.monotonic()
    _heading(1, "start Kafka, registry, object store and PostgreSQL", runtime.command("up"))
    runtime.up(lambda service, event: console.print(f"   {service:<10} {event}"), room_for=(STREAMING,))
    _heading(2, "start the streaming driver", runtime.command("stream"))
    with console.status("Spark starts: about 20 s"):
        runtime.start(STREAMING)
    *before, proof = steps(runtime.topology.environment, run_id, seconds)
    for number, step in enumerate(before, start=3):
        _heading(number, step.what, " ".join(step.command))
        _step(runtime, number, step)
    _heading(3 + len(before), proof.what, " ".join(proof.command))
    code = runtime.follow(proof.command)
    console.print(f"\ndemo of run {run_id} took {time.monotonic() - began:.0f} s; the stack stays up")
    _where_next(runtime, run_id)
    return code


def _step(runtime: Runtime, number: int, step: Step) -> None:
    began = time.monotonic()
    if step.quiet:
        with console.status("working"):
            code = runtime.follow(step.command)
    else:
        code = runtime.follow(step.command)
    if code != 0:
        raise ServiceError(f"demo step {number} failed with exit code {code}: {' '.join(step.command)}")
    console.print(f"   [dim]done in {time.monotonic() - began:.1f} s[/dim]")


def _heading(number: int, what: str, command: str) -> None:
    console.print(f"\n[bold]{number}. {what}[/bold]  [dim]{command}[/dim]")


def _where_next(runtime: Runtime, run_id: str) -> None:
    topology = runtime.topology
    rows = (
        (runtime.command("status"), "what runs, where, and whether it is healthy"),
        (runtime.command("psql"), "the marts: select * from marts.mart_daily_ctr;"),
        (runtime.command("reconcile", RUN=run_id), "the proof again"),
        (runtime.command("logs", SERVICE=STREAMING), "each micro-batch as it commits"),
        (f"http://{topology.metrics.streaming.address}/metrics", "lag in records and seconds"),
        (f"http://{topology.monitoring.prometheus.address}", "lag, rates and alerts over time (Prometheus)"),
        (runtime.command("down"), "stop everything; the data stays"),
    )
    console.print("where to look next:")
    for command, shows in rows:
        console.print(f"   {command:<52} {shows}")
