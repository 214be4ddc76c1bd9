"""`crm-generator`: sends CRM traffic to Kafka and writes down what it sent.

Exit codes: 0 all acknowledged, 2 a mistake in scenario, options or settings, 3 a service is missing or lost records.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console

from data_generator.metrics import serve_metrics
from data_generator.progress import Progress, summary_table
from data_generator.run import Run, Status, default_run_id
from data_generator.scenario import Scenario, load_scenario, scenario_path
from data_platform_core.errors import ConfigurationError, ServiceError, UserError
from data_platform_core.settings import load_settings

NORMAL = scenario_path("normal")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

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


@app.command()
def normal(  # noqa: PLR0913 - options of a command
    *,
    run_id: RunId = None,
    env: Env = None,
    seed: Seed = None,
    duration: Duration = None,
    rate: Rate = None,
    flat: Flat = False,
    producer_id: ProducerId = 0,
    scenario: ScenarioFile = NORMAL,
    metrics_port: MetricsPort = None,
    quiet: Quiet = False,
) -> None:
    """An ordinary day: 10-100 records/s, open-loop, following the hours of the day."""
    loaded = load_scenario(scenario, _overrides(scenario, seed, duration, rate, flat))
    _execute(lambda run: run.paced(), loaded, run_id, env, producer_id, metrics_port, quiet)


@app.command()
def run(  # noqa: PLR0913 - options of a command
    *,
    scenario: ScenarioFile,
    run_id: RunId = None,
    env: Env = None,
    seed: Seed = None,
    duration: Duration = None,
    rate: Rate = None,
    flat: Flat = False,
    producer_id: ProducerId = 0,
    metrics_port: MetricsPort = None,
    quiet: Quiet = False,
) -> None:
    """Any scenario file."""
    loaded = load_scenario(scenario, _overrides(scenario, seed, duration, rate, flat))
    _execute(lambda run: run.paced(), loaded, run_id, env, producer_id, metrics_port, quiet)


@app.command()
def flood(  # noqa: PLR0913 - options of a command
    *,
    entity: Annotated[str, typer.Option(help="Entity to send.")] = "events",
    count: Annotated[int, typer.Option(min=1, help="How many records.")] = 100_000,
    run_id: RunId = None,
    env: Env = None,
    seed: Seed = None,
    producer_id: ProducerId = 0,
    scenario: ScenarioFile = NORMAL,
    metrics_port: MetricsPort = None,
    quiet: Quiet = False,
) -> None:
    """Unique good records of one entity as fast as the brokers take them, for benchmarks."""
    overrides: dict[str, Any] = {"name": "flood"} | ({"seed": seed} if seed is not None else {})
    loaded = load_scenario(scenario, overrides)
    _execute(lambda run: run.flood(entity, count), loaded, run_id, env, producer_id, metrics_port, quiet)


def _overrides(
    scenario: Path, seed: int | None, duration: float | None, rate: float | None, flat: bool
) -> dict[str, Any]:
    """Options of the command line as keys of the scenario."""
    overrides: dict[str, Any] = {}
    if seed is not None:
        overrides["seed"] = seed
    if duration is not None:
        overrides["duration_s"] = duration
    if flat:
        overrides["curve.flat"] = True
    if rate is not None:
        if rate <= 0:
            raise ConfigurationError(f"--rate is {rate:g}, give records/s above 0")
        overrides["rate.high"] = rate
        overrides["rate.low"] = min(rate, load_scenario(scenario).rate.low)
    return overrides


def _execute(
    work: Callable[[Run], Status],
    scenario: Scenario,
    run_id: str | None,
    env: str | None,
    producer_id: int,
    metrics_port: int | None,
    quiet: bool,
) -> None:
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


def main() -> None:
    """Entry point: mistakes end in one line on stderr."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
