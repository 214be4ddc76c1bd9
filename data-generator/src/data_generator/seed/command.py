"""`crm-generator seed`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from data_generator.commands import Env, MetricsPort, Quiet, RunId, ScenarioFile, observe
from data_generator.progress import Progress, summary_table
from data_generator.run import default_run_id
from data_generator.scenario import load_model, scenario_path
from data_generator.seed.plan import SeedScenario
from data_generator.seed.run import SeedRun
from data_platform_core.errors import ServiceError
from data_platform_core.settings import load_settings

SEED = scenario_path("seed")
Count = Annotated[int | None, typer.Option(min=0, help="Number of records; default: the scenario's.")]


def seed(  # noqa: PLR0913 - options of a command
    *,
    profiles: Count = None,
    products: Count = None,
    orders: Count = None,
    reviews: Count = None,
    append: Annotated[bool, typer.Option("--append", help="Add new records; replace none.")] = False,
    run_id: RunId = None,
    env: Env = None,
    scenario: ScenarioFile = SEED,
    metrics_port: MetricsPort = None,
    quiet: Quiet = False,
) -> None:
    """Send fixtures: customers, products, orders (some fraudulent) and reviews. A second run replaces the first."""
    counts = {"profiles": profiles, "products": products, "orders": orders, "reviews": reviews}
    loaded = load_model(SeedScenario, scenario).with_counts(counts)
    settings = load_settings("generator", env)
    progress = Progress(quiet)
    run = SeedRun(settings, loaded, run_id or default_run_id(loaded.name), append, progress.show)
    print(f"run id {run.status.run_id}", flush=True)
    observe(run, settings, metrics_port)
    with progress:
        status = run.fill()
    if not quiet:
        Console().print(summary_table(run.counts, status))
    lost = status.failed + status.unknown
    if lost or status.acked != status.planned:
        raise ServiceError(
            f"{(status.planned or 0) - status.acked:,} of {status.planned:,} records were not acknowledged; run "
            "the seed again, under another run id, to replace what is there"
        )
