"""Steps shared by all experiments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_platform_core.contracts import load_contracts
from data_platform_core.errors import ServiceError
from data_platform_core.jobs import BATCH, job
from data_platform_core.settings import load_settings
from platform_experiments.runtime import Runtime


def begin_anew(runtime: Runtime) -> None:
    """Start an empty platform: the existing one is stopped and its data deleted."""
    runtime.down()
    runtime.clean()
    runtime.up()


def drain(runtime: Runtime, timeout_s: float) -> float:
    """Seconds until bronze and silver have the topics' records. Raises ServiceError after `timeout_s`."""
    from data_platform_core.accounting.liveness import wait_until_drained

    settings = load_settings("accounting", runtime.topology.environment)
    drained = wait_until_drained(settings, load_contracts(), timeout_s)
    if drained.waiting:
        raise ServiceError(
            f"not drained after {timeout_s:g} s: {dict(drained.waiting)}; the stream is too slow or down"
        )
    return drained.seconds


def flat_traffic(runtime: Runtime, run_id: str, rate: int, seconds: float, *options: str) -> tuple[str, ...]:
    """The command that sends the normal scenario at a constant rate, records/s, without progress lines."""
    flat = ("--flat", "--rate", str(rate), "--duration", f"{seconds:g}", "--quiet")
    return job("generate-normal").in_environment(runtime.topology.environment, *flat, *options, run_id=run_id)


def load_and_build(runtime: Runtime) -> None:
    """Carry silver to the marts."""
    for name in BATCH:
        runtime.run(job(name).in_environment(runtime.topology.environment))


def reconciled(runtime: Runtime, run_id: str, report: Path) -> Any:
    """Reconcile a run; what its report says, written to `report`. Raises ServiceError when there is none."""
    command = job("reconcile").in_environment(runtime.topology.environment, "--json", str(report), run_id=run_id)
    runtime.run(command, check=False)
    if not report.is_file():
        raise ServiceError(f"`crm reconcile --run-id {run_id}` wrote no report; run it by hand")
    return json.loads(report.read_text(encoding="utf-8"))


def equations(report: Any) -> dict[str, bool]:
    """Whether each equation of a reconciliation's report holds, by name."""
    return {name: bool(equation["holds"]) for name, equation in report["equations"].items()}
