"""What the commands share: their options, and one run of one producer from settings to exit code."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console

from data_generator.metrics import serve_metrics
from data_generator.progress import Progress, summary_table
from data_generator.run import Run, Status, default_run_id
from data_generator.scenario import Scenario, scenario_path
from data_platform_core.errors import ServiceError
from data_platform_core.settings import load_settings

NORMAL = scenario_path("normal")

RunId = Annotated[str | None, typer.Option(help="Name of the run; default: scenario and time. Used once only.")]
Env = Annotated[str | None, typer.Option("--env", help="Environment: a file of topology/.")]
Seed = Annotated[int | None, typer.Option(help="Same seed, same records.")]
Duration = Annotated[float | None, typer.Option(help="Seconds of traffic; without it until stopped.")]
Rate = Annotated[float | None, typer.Option(help="Records/s at the busiest hour; with --flat at all times.")]
Flat = Annotated[bool, typer.Option("--flat", help="Hold the rate; no hours of the day.")]
ProducerId = Annotated[int, typer.Option(min=0, help="Number of this process when several share a run.")]
MetricsPort = Annotated[int | None, typer.Option(min=0, max=65535, help="Prometheus port on loopback; 0 for none.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the run id and errors only.")]
ScenarioFile = Annotated[Path, typer.Option("--scenario", help="Scenario file.")]


def execute(
    work: Callable[[Run], Status],
    scenario: Scenario,
    run_id: str | None,
    env: str | None,
    producer_id: int,
    metrics_port: int | None,
    quiet: bool,
) -> None:
    """`work` with a run of `scenario`: metrics, signals, progress, summary. Raises UserError subclasses."""
    settings = load_settings("generator", env)
    progress = Progress(quiet)
    run = Run(settings, scenario, run_id or default_run_id(scenario.name), producer_id, progress.show)
    print(f"run id {run.status.run_id}", flush=True)
    host, port = settings.metrics.generator_host, settings.metrics.generator_port
    if metrics_port != 0:
        try:
            serve_metrics(run, host, metrics_port or port)
        except ServiceError as error:
            # Asked for, it must be there; as a default it must not keep a second producer from running.
            if metrics_port is not None:
                raise
            structlog.get_logger().warning("no metrics", reason=str(error))
    _stop_on_signals(run)
    with progress:
        status = work(run)
    if not quiet:
        Console().print(summary_table(run.accounts, status))
    lost = status.failed + status.unknown
    if lost:
        raise ServiceError(
            f"{lost:,} of {status.sent:,} records were not acknowledged ({status.failed:,} failed, "
            f"{status.unknown:,} unknown); check the brokers; the ledger of run {status.run_id} has each of them"
        )


def _stop_on_signals(run: Run) -> None:
    """The first signal ends the run cleanly, a second one at once."""

    def handle(number: int, frame: object) -> None:
        run.stop()
        for again in stops:
            signal.signal(again, signal.SIG_DFL)

    stops = (signal.SIGINT, signal.SIGTERM)
    for number in stops:
        signal.signal(number, handle)
