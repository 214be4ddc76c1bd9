"""`crm-experiment spike`: the whole experiment, from its options to its report."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from platform_experiments.runtime import Runtime
from platform_experiments.spike import report
from platform_experiments.spike.arms import Arm
from platform_experiments.spike.experiment import Plan, arms_seconds, check, console, run_arm
from platform_experiments.spike.results import ArmResult


def run(runtime: Runtime, arms: Sequence[Arm], plan: Plan, out: Path | None) -> bool:
    """Run `arms`, write the report and print its summary; True when every arm is accounted for.

    Raises UserError subclasses: before anything starts for what can't be applied, later when a step fails; what the
    arms before it showed is written either way.
    """
    check(plan)
    began = time.monotonic()
    name = f"spike-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    day = datetime.now(UTC).date()
    folder = out or report.folder_for(day)
    named = ", ".join(arm.name for arm in arms)
    console.print(
        f"spike: arms {named}; about {arms_seconds(arms, plan) / 60:.0f} minutes; the report goes to {folder}"
    )
    results: list[ArmResult] = []
    signal.signal(signal.SIGTERM, _interrupt)  # leave as by Ctrl-C: nothing half-started stays behind
    try:
        for arm in arms:
            results.append(run_arm(runtime, arm, plan, name))
    finally:
        runtime.down()
        if results:
            report.write(folder, report.Facts(_command(), runtime.spark_cluster, day, plan, results))
    _print(results)
    console.print(
        f"{folder / 'report.md'}\n{folder / 'report.html'}\ntook {(time.monotonic() - began) / 60:.1f} minutes"
    )
    return all(result.accounted for result in results)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _command() -> str:
    """As it was typed, without the folder of the program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _print(results: Sequence[ArmResult]) -> None:
    header, rows = report.table(results)
    summary = Table(title="spike")
    for column in header:
        summary.add_column(column, justify="left" if column == "arm" else "right", overflow="fold")
    for row in rows:
        summary.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(summary)
