"""`crm-generator`: sends CRM traffic to Kafka and writes down what it sent.

Exit codes: 0 all acknowledged, 2 a mistake in scenario, options or settings, 3 a service is missing or lost records.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from data_generator.commands import (
    NORMAL,
    Duration,
    Env,
    Flat,
    MetricsPort,
    ProducerId,
    Quiet,
    Rate,
    RunId,
    ScenarioFile,
    Seed,
    execute,
)
from data_generator.scenario import load_scenario
from data_platform_core.errors import ConfigurationError, UserError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


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
    execute(lambda run: run.paced(), loaded, run_id, env, producer_id, metrics_port, quiet)


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
    execute(lambda run: run.paced(), loaded, run_id, env, producer_id, metrics_port, quiet)


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
    execute(lambda run: run.flood(entity, count), loaded, run_id, env, producer_id, metrics_port, quiet)


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


def main() -> None:
    """Entry point: mistakes end in one line on stderr."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
