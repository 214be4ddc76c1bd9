"""`crm reconcile`, and `crm stream drain`, which waits until the run can be reconciled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from data_platform_core.contracts import load_contracts
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.settings import load_settings


def reconcile(
    context: typer.Context,
    run_id: Annotated[str, typer.Option(help="Run id, as printed by the generator.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the report here.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds within which the topics must be drained.")] = 60.0,
) -> None:
    """Reconcile every record of a run: one table, one line per equation, PASS or FAIL."""
    from data_platform_core.accounting.reconcile import run
    from data_platform_core.wire.ledger import check_run_id

    check_run_id(run_id)
    if json_file and not json_file.parent.is_dir():
        raise ConfigurationError(f"--json {json_file}: folder {json_file.parent} does not exist; create it first")
    run(load_settings("accounting", context.obj), run_id, json_file, wait)


def drain(
    context: typer.Context,
    timeout: Annotated[float, typer.Option(min=0, help="Maximum wait in seconds.")] = 300.0,
) -> None:
    """Wait until bronze and silver have every record that is in the topics now."""
    from data_platform_core.accounting.liveness import wait_until_drained

    settings, contracts = load_settings("accounting", context.obj), load_contracts()
    with Console(stderr=True).status("waiting for the stream") as status:
        drained = wait_until_drained(
            settings, contracts, timeout, lambda lags: status.update(f"waiting for the stream: {lag_text(lags)}")
        )
    if drained.waiting:
        raise ServiceError(
            f"not drained after {timeout:g} s: {lag_text(drained.waiting)}; is the stream running? `make status`, "
            "`make logs`"
        )
    Console().print(f"drained in {drained.seconds:.1f} s", highlight=False)


def lag_text(lags: Mapping[str, int]) -> str:
    """Lag by entity as text."""
    return ", ".join(f"{entity} {lag:,} records behind" for entity, lag in lags.items()) or "drained"
