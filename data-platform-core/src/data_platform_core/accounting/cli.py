"""`crm reconcile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_platform_core.settings import load_settings


def reconcile(
    context: typer.Context,
    run_id: Annotated[str, typer.Option(help="The run: the generator printed it.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the report here.")] = None,
) -> None:
    """Account for every record of a run: one table, one line per equation, PASS or FAIL."""
    from data_platform_core.accounting.reconcile import run

    run(load_settings("accounting", context.obj), run_id, json_file)
