"""Shared by the commands: options, and one run of one producer from settings to exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console

from data_generator.load.tally import shortfall
from data_generator.metrics import serve_metrics
from data_generator.processes import Producers
from data_generator.progress import Progress, summary_table
from data_generator.run import Run, default_run_id
from data_generator.scenario import Scenario, scenario_path
from data_generator.status import Status
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.settings import Settings, load_settings

NORMAL = scenario_path("normal")
SPIKE = scenario_path("spike")

Work = Callable[[Run], Status]

RunId = Annotated[str | None, typer.Option(help="Name of the run; default: scenario and time. Must be new.")]
Env = Annotated[str | None, typer.Option("--env", help="Environment: a file of topology/.")]
Seed = Annotated[int | None, typer.Option(help="Seed; the same seed sends the same records.")]
Duration = Annotated[float | None, typer.Option(help="Seconds of traffic; default: until stopped.")]
Rate = Annotated[float | None, typer.Option(help="Records/s at the busiest hour; with --flat all the time.")]
Flat = Annotated[bool, typer.Option("--flat", help="Hold the rate; no hours of the day.")]
ProducerId = Annotated[int, typer.Option(min=0, help="Number of this process when several share a run.")]
MetricsPort = Annotated[int | None, typer.Option(min=0, max=65535, help="Prometheus port on loopback; 0 for none.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the run id and errors only.")]
Processes = Annotated[int, typer.Option(min=1, help="Producer processes that share the rate.")]
ScenarioFile = Annotated[Path, typer.Option("--scenario", help="Scenario file.")]


def execute(  # noqa: PLR0913, PLR0917 - what the commands' options say
    work: Work,
    scenario: Scenario,
    run_id: str | None,
    env: str | None,
    producer_id: int,
    metrics_port: int | None,
    quiet: bool,
    processes: int = 1,
) -> None:
    """`work` with a run of `scenario`: metrics, signals, progress, summary. Raises UserError subclasses.

    With several `processes`, each of them executes `work`: a method of Run, optionally with bound arguments.
    """
    if processes > 1 and producer_id:
        raise ConfigurationError(
            f"--producer-id is {producer_id} and --processes {processes}: they number themselves from 0; leave one out"
        )
    settings = load_settings("generator", env)
    progress = Progress(quiet)
    name = run_id or default_run_id(scenario.name)
    run = (
        Run(settings, scenario, name, producer_id, progress.show)
        if processes == 1
        else Producers(settings, scenario, name, processes, env, progress.show)
    )
    print(f"run id {run.status.run_id}", flush=True)
    observe(run, settings, metrics_port)
    with progress:
        status = work(run) if isinstance(run, Run) else run.work(work)
    if not quiet:
        Console().print(summary_table(run.counts, status))
    missed = shortfall(status.phases, status.worst_behind_s)
    if missed:
        # Always printed: it affects the interpretation of the run's numbers.
        print(f"warning: run {status.run_id} was {missed}", file=sys.stderr)
    lost = status.failed + status.unknown
    if lost:
        raise ServiceError(
            f"{lost:,} of {status.sent:,} records were not acknowledged ({status.failed:,} failed, "
            f"{status.unknown:,} unknown); check the brokers; the ledger of run {status.run_id} has each of them"
        )


def observe(run: Run | Producers, settings: Settings, metrics_port: int | None) -> None:
    """Serve the run's metrics, and let signals stop it. Raises ServiceError when a port that was asked for is taken."""
    _serve_metrics(run, settings, metrics_port)
    _stop_on_signals(run)


def _serve_metrics(run: Run | Producers, settings: Settings, metrics_port: int | None) -> None:
    """One port for the run, however many producers it has."""
    port = settings.metrics.port if metrics_port is None else metrics_port
    if not port:
        return
    try:
        serve_metrics(run, settings.metrics.host, port)
    except ServiceError as error:
        # An explicit port is required; a busy default port must not prevent a second producer.
        if metrics_port is not None:
            raise
        structlog.get_logger().warning("no metrics", reason=str(error))


def _stop_on_signals(run: Run | Producers) -> None:
    """The first signal ends the run cleanly, a second one aborts it."""

    def at_once(number: int, frame: object) -> None:
        if isinstance(run, Producers):
            run.kill()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def cleanly(number: int, frame: object) -> None:
        run.stop()
        for again in stops:
            signal.signal(again, at_once)

    stops = (signal.SIGINT, signal.SIGTERM)
    for number in stops:
        signal.signal(number, cleanly)
