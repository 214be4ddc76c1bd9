"""`crm-experiment`: demo, spike, bench and alert drill on the command line; the Makefile's targets call it."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from data_platform_core import command_line
from platform_experiments.embedded import EmbeddedRuntime
from platform_experiments.runtime import Runtime

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
# Piped, rich would squeeze tables into 80 columns.
_console = Console(width=None if sys.stdout.isatty() else 120)


class Where(StrEnum):
    """What runs the platform in an experiment."""

    EMBEDDED = "embedded"
    KUBERNETES = "kubernetes"


Environment = Annotated[str, typer.Option("--env", help="Environment: a file of home-server-infra/topology.")]


@app.command()
def demo(
    env: Environment = "local",
    seconds: Annotated[int, typer.Option(min=1, help="Seconds of traffic.")] = 60,
) -> None:
    """Send traffic through the whole platform, then reconcile every record."""
    from platform_experiments import demo as steps

    raise typer.Exit(steps.run(EmbeddedRuntime(env), seconds))


@app.command()
def drill(
    env: Environment = "local",
    scale: Annotated[float, typer.Option(min=0.01, max=1, help="Factor on every wait of rules and routes.")] = 1.0,
) -> None:
    """Cause real failures and follow each alert to its message and back; exit code 1 unless each arrived once."""
    from platform_experiments import drill as steps

    began = time.monotonic()
    with _console.status(f"drill on stack {env}"):
        legs = steps.run(
            EmbeddedRuntime(env),
            scale,
            lambda line: _console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {line}"),
        )
    _console.print(steps.drill_table(legs))
    if not all(leg.once for leg in legs):
        raise typer.Exit(1)


@app.command()
def bench(
    *,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this part; may be repeated.")] = None,
    backlog: Annotated[int, typer.Option(min=1, help="Records of the backlog.")] = 500_000,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds of each measurement at a rate.")] = 90,
    warm_up: Annotated[int, typer.Option(min=1, help="Seconds of traffic that warm a driver.")] = 90,
    setting: Annotated[
        list[str] | None, typer.Option(help="Beginning of a setting to compare in part settings; may be repeated.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often part settings measures each, in shuffled order.")] = 1,
    keys: Annotated[
        list[int] | None, typer.Option(min=1, help="Keys of the window in part restart; repeated, in rising order.")
    ] = None,
) -> None:
    """Benchmark this machine on a separate fresh stack."""
    from platform_experiments.bench import runner
    from platform_experiments.bench.load import Load
    from platform_experiments.bench.measuring import ENVIRONMENT

    load = Load(backlog, seconds, warm_up, rounds=rounds, settings=tuple(setting or ()))
    load = replace(load, keys=tuple(sorted(keys))) if keys else load
    runner.run(EmbeddedRuntime(ENVIRONMENT), load, only or ())


@app.command()
def spike(  # noqa: PLR0913 - options of a command
    *,
    arms: Annotated[str, typer.Option(help="Arms by name, with commas; default: all.")] = "",
    hold: Annotated[float, typer.Option(min=20, help="Seconds at the peak.")] = 300,
    rate: Annotated[float, typer.Option(min=1, help="Records/s at the peak.")] = 3000,
    baseline_rate: Annotated[float, typer.Option(min=1, help="Records/s before and after.")] = 100,
    baseline: Annotated[float, typer.Option(min=10, help="Seconds before the ramp.")] = 30,
    ramp: Annotated[float, typer.Option(min=0, help="Seconds from baseline to peak and back.")] = 15,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of the arms that add some.")] = 12,
    seed: Annotated[int, typer.Option(help="Same seed, same spike.")] = 20261121,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; default: by date.")] = None,
    runtime: Annotated[
        Where, typer.Option(help="What runs the platform: processes of this machine, or the kubeconfig's cluster.")
    ] = Where.EMBEDDED,
) -> None:
    """Run the same spike against several remedies on a separate stack; writes a report with curves."""
    from platform_experiments.spike import command
    from platform_experiments.spike.arms import choose
    from platform_experiments.spike.experiment import Plan

    chosen = choose([name for name in arms.replace(" ", "").split(",") if name])
    plan = Plan(seed, rate, baseline_rate, baseline, ramp, hold, decay=ramp, recovery=baseline, partitions=partitions)
    if not command.run(_runtime_of_spikes(runtime), chosen, plan, out):
        raise typer.Exit(1)


@app.command()
def disrupt(
    *,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this disruption; may be repeated.")] = None,
    rate: Annotated[int, typer.Option(min=1, help="Records/s of all entities.")] = 3000,
    before: Annotated[float, typer.Option(min=5, help="Seconds of traffic before each disruption.")] = 30,
    after: Annotated[float, typer.Option(min=10, help="Seconds of traffic after each.")] = 120,
) -> None:
    """Kill, restart and change parts of the cluster under traffic; exit code 1 unless every record is accounted for."""
    from platform_experiments.kubernetes import KubernetesRuntime, disruptions
    from platform_experiments.spike.experiment import CLUSTER_ENVIRONMENT

    plan = disruptions.Plan(rate, before, after)
    found = disruptions.run(KubernetesRuntime(CLUSTER_ENVIRONMENT), disruptions.choose(only or ()), plan)
    _console.print(disruptions.table(found, plan))
    if not all(outcome.accounted for outcome in found):
        raise typer.Exit(1)


def _runtime_of_spikes(where: Where) -> Runtime:
    from platform_experiments.kubernetes import KubernetesRuntime
    from platform_experiments.spike.experiment import CLUSTER_ENVIRONMENT, ENVIRONMENT

    return EmbeddedRuntime(ENVIRONMENT) if where is Where.EMBEDDED else KubernetesRuntime(CLUSTER_ENVIRONMENT)


def main() -> None:
    """Entry point: a user's mistake prints one line on stderr and exits with its code."""
    command_line.run(app)
