"""`make demo`: traffic through the whole platform, then the proof that every record is accounted for.

Each step is a command that people can type themselves; it is shown before it runs.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console

from data_platform_core.commands import command_path
from data_platform_core.errors import ServiceError
from data_platform_core.topology import load_topology
from embedded_stack import api
from embedded_stack.services import STREAMING

_DRAIN_SECONDS = 300
#: After Ctrl-C: a generator waits for what it sent, a load for Spark to let go.
_SETTLE_SECONDS = 30

console = Console(highlight=False, soft_wrap=True)


def run(environment: str, seconds: int) -> int:
    """Run the demo for `seconds` of traffic. Returns reconcile's exit code; the stack stays up.

    Raises ServiceError naming the step that failed, or when a demo of this environment is under way.
    """
    try:
        with _only_demo(environment):
            return _run(environment, seconds)
    except KeyboardInterrupt:
        console.print(f"\ninterrupted; what is up stays up, `make down{_suffix(environment)}` stops it")
        raise


@contextmanager
def _only_demo(environment: str) -> Iterator[None]:
    """Two demos would load and build the same tables at the same time. Raises ServiceError for the second."""
    folder = load_topology(environment).data_path
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "demo.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ServiceError(
                f"a demo of environment {environment} runs already (pid {lock.read().strip() or 'unknown'}); wait for "
                "its end, or stop it with Ctrl-C"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _run(environment: str, seconds: int) -> int:
    run_id = f"demo-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    began = time.monotonic()
    _heading(1, "start Kafka, registry, object store and PostgreSQL", ("make", "up"))
    api.up(environment, lambda service, event: console.print(f"   {service:<10} {event}"))
    _heading(2, "start the streaming driver", ("make", "stream"))
    with console.status("Spark starts: about 20 s"):
        api.start(environment, STREAMING)
    crm = ("crm", "--env", environment)
    generator = ("crm-generator", "normal", "--env", environment, "--run-id", run_id, "--duration", str(seconds))
    plan: tuple[tuple[str, tuple[str, ...]], ...] = (
        (f"{seconds} s of normal traffic", generator),
        ("wait until the stream has committed all of it", (*crm, "stream", "drain", "--timeout", str(_DRAIN_SECONDS))),
        ("load silver into PostgreSQL", (*crm, "load")),
        ("build and test the marts", (*crm, "dbt", "build", "--quiet")),
    )
    for number, (what, command) in enumerate(plan, start=3):
        _heading(number, what, command)
        _step(number, command, quiet="--quiet" in command)
    reconcile = (*crm, "reconcile", "--run-id", run_id)
    _heading(3 + len(plan), "account for every record", reconcile)
    code = _call(reconcile)
    console.print(f"\ndemo of run {run_id} took {time.monotonic() - began:.0f} s; the stack stays up")
    _where_next(environment, run_id)
    return code


def _step(number: int, command: tuple[str, ...], *, quiet: bool) -> None:
    began = time.monotonic()
    if quiet:  # it says nothing unless something fails
        with console.status("working"):
            code = _call(command)
    else:
        code = _call(command)
    if code != 0:
        raise ServiceError(f"demo step {number} failed with exit code {code}: {' '.join(command)}")
    console.print(f"   [dim]done in {time.monotonic() - began:.1f} s[/dim]")


def _call(command: Iterable[str]) -> int:
    """Run a command to its end. Ctrl-C reaches it as it reaches us: it gets the time to settle what it began."""
    program, *arguments = command
    with subprocess.Popen([command_path(program), *arguments]) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            try:
                child.wait(_SETTLE_SECONDS)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                child.kill()
            raise


def _heading(number: int, what: str, command: tuple[str, ...]) -> None:
    console.print(f"\n[bold]{number}. {what}[/bold]  [dim]{' '.join(command)}[/dim]")


def _suffix(environment: str) -> str:
    """What `make` needs to know beside the target."""
    return "" if environment == "local" else f" ENV={environment}"


def _where_next(environment: str, run_id: str) -> None:
    topology = load_topology(environment)
    suffix = _suffix(environment)
    rows = (
        (f"make status{suffix}", "what runs, where, and whether it is healthy"),
        (f"make psql{suffix}", "the marts: select * from marts.mart_daily_ctr;"),
        (f"make reconcile RUN={run_id}{suffix}", "the proof again"),
        (f"make logs SERVICE={STREAMING}{suffix}", "each micro-batch as it commits"),
        (f"http://{topology.metrics.streaming.address}/metrics", "lag in records and seconds"),
        (f"http://{topology.monitoring.prometheus.address}", "lag, rates and alerts over time (Prometheus)"),
        (f"make down{suffix}", "stop everything; the data stays"),
    )
    console.print("where to look next:")
    for command, tells in rows:
        console.print(f"   {command:<52} {tells}")
