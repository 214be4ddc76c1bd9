"""`crm-generator`: sends CRM traffic to Kafka and keeps a ledger of every send.

Exit codes: 0 all acknowledged, 2 a mistake in scenario, options or settings, 3 a service is missing or lost records.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from data_generator.backfill.command import backfill
from data_generator.commands import (
    NORMAL,
    SPIKE,
    Duration,
    Env,
    Flat,
    MetricsPort,
    Processes,
    ProducerId,
    Quiet,
    Rate,
    RunId,
    ScenarioFile,
    Seed,
    execute,
)
from data_generator.run import Run
from data_generator.scenario import load_scenario
from data_generator.seed.command import seed
from data_platform_core import command_line
from data_platform_core.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.command()(backfill)
app.command()(seed)


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
    processes: Processes = 1,
    scenario: ScenarioFile = NORMAL,
    metrics_port: MetricsPort = None,
    quiet: Quiet = False,
) -> None:
    """Send an ordinary day's traffic: 10-100 records/s, open-loop, following the hours of the day."""
    loaded = load_scenario(scenario, _overrides(scenario, seed, duration, rate, flat))
    execute(Run.paced, loaded, run_id, env, producer_id, metrics_port, quiet, processes)


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
    processes: Processes = 1,
    metrics_port: MetricsPort = None,
    quiet: Quiet = False,
) -> None:
    """Run a scenario file."""
    loaded = load_scenario(scenario, _overrides(scenario, seed, duration, rate, flat))
    execute(Run.paced, loaded, run_id, env, producer_id, metrics_port, quiet, processes)


@app.command()
def flood(  # noqa: PLR0913 - options of a command
    *,
    entity: Annotated[str, typer.Option(help="Entity to send.")] = "events",
    count: Annotated[int, typer.Option(min=1, help="Number of records.")] = 100_000,
    lines: Annotated[int | None, typer.Option(min=1, help="Lines of an order, on average; 18 make 300 bytes.")] = None,
    run_id: RunId = None,
    env: Env = None,
    seed: Seed = None,
    producer_id: ProducerId = 0,
    processes: Processes = 1,
    scenario: ScenarioFile = NORMAL,
    metrics_port: MetricsPort = None,
    quiet: Quiet = False,
) -> None:
    """Send unique good records of one entity as fast as the brokers accept them, for benchmarks."""
    overrides: dict[str, Any] = {"name": "flood"} | ({"seed": seed} if seed is not None else {})
    loaded = load_scenario(scenario, overrides)
    work = partial(Run.flood, entity=entity, count=count, lines=lines)
    execute(work, loaded, run_id, env, producer_id, metrics_port, quiet, processes)


@app.command()
def spike(  # noqa: PLR0913 - options of a command
    *,
    rate: Annotated[float | None, typer.Option(help="Records/s at the peak.")] = None,
    hold: Annotated[float | None, typer.Option(help="Seconds at the peak.")] = None,
    baseline_rate: Annotated[float | None, typer.Option(help="Records/s before and after.")] = None,
    baseline: Annotated[float | None, typer.Option(help="Seconds before the ramp.")] = None,
    ramp: Annotated[float | None, typer.Option(help="Seconds from baseline to peak; 0 jumps.")] = None,
    decay: Annotated[float | None, typer.Option(help="Seconds from peak to baseline; 0 jumps.")] = None,
    recovery: Annotated[float | None, typer.Option(help="Seconds at the baseline afterwards.")] = None,
    run_id: RunId = None,
    env: Env = None,
    seed: Seed = None,
    producer_id: ProducerId = 0,
    processes: Processes = 1,
    scenario: ScenarioFile = SPIKE,
    metrics_port: MetricsPort = None,
    quiet: Quiet = False,
) -> None:
    """Send a campaign: baseline, ramp, hold (default 3,000 records/s for 5 minutes), decay, baseline; open-loop."""
    options = {
        "rate.high": rate,
        "rate.low": baseline_rate,
        "spike.baseline_s": baseline,
        "spike.ramp_s": ramp,
        "spike.hold_s": hold,
        "spike.decay_s": decay,
        "spike.recovery_s": recovery,
        "seed": seed,
    }
    loaded = load_scenario(scenario, {key: value for key, value in options.items() if value is not None})
    execute(Run.paced, loaded, run_id, env, producer_id, metrics_port, quiet, processes)


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
    """Entry point: a user's mistake prints one line on stderr and exits with its code."""
    command_line.run(app)


if __name__ == "__main__":
    main()
