"""`crm-generator backfill`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from data_generator.backfill.plan import SinkName, Wish
from data_generator.backfill.progress import BackfillProgress
from data_generator.backfill.run import BackfillRun, begin
from data_generator.commands import Env, MetricsPort, Quiet, RunId, ScenarioFile, Seed, observe
from data_generator.progress import summary_table
from data_generator.run import default_run_id
from data_generator.scenario import scenario_path
from data_platform_core.errors import ConfigurationError
from data_platform_core.settings import load_settings

BACKFILL = scenario_path("backfill")
_DAY = ["%Y-%m-%d"]


def backfill(  # noqa: PLR0913 - options of a command
    *,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=_DAY, help="First day; default: 365 days up to --to.")
    ] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=_DAY, help="Last day; default: yesterday.")] = None,
    scale: Annotated[float | None, typer.Option(help="Factor on the scenario's records per day.")] = None,
    sink: Annotated[
        str | None, typer.Option(help="kafka: through the stream. lake: files for `crm lake import`.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume --run-id where it ended.")] = False,
    run_id: RunId = None,
    env: Env = None,
    seed: Seed = None,
    scenario: ScenarioFile = BACKFILL,
    metrics_port: MetricsPort = None,
    quiet: Quiet = False,
) -> None:
    """Send a history: past days by hour, weekday and season, at full speed; can be killed and resumed."""
    if resume and not run_id:
        raise ConfigurationError("--resume: say which run, with --run-id")
    wish = Wish(
        path=Path(scenario),
        first=first.date() if first else None,
        last=last.date() if last else None,
        scale=scale,
        seed=seed,
        sink=_sink(sink),
    )
    settings = load_settings("generator", env)
    start = begin(settings, wish, run_id or default_run_id("backfill"), resume)
    progress = BackfillProgress(quiet)
    run = progress.run = BackfillRun(settings, start, progress.show)
    print(f"run id {start.run_id}", flush=True)
    observe(run, settings, metrics_port)
    with progress:
        status = run.fill()
    if not quiet:
        Console().print(summary_table(run.counts, status))


def _sink(name: str | None) -> SinkName | None:
    if name == "kafka":
        return "kafka"
    if name == "lake":
        return "lake"
    if name is None:
        return None
    raise ConfigurationError(f"--sink is {name!r}, give kafka or lake")
