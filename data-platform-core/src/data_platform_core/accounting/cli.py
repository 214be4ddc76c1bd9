"""`crm reconcile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_platform_core.errors import ConfigurationError
from data_platform_core.settings import load_settings


def reconcile(
    context: typer.Context,
    run_id: Annotated[str, typer.Option(help="The run: the generator printed it.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the report here.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds within which the topics must be drained.")] = 60.0,
) -> None:
    """Account for every record of a run: one table, one line per equation, PASS or FAIL."""
    from data_platform_core.accounting.reconcile import run

    if json_file and not json_file.parent.is_dir():
        raise ConfigurationError(f"--json {json_file}: folder {json_file.parent} does not exist; create it first")
    run(load_settings("accounting", context.obj), run_id, json_file, wait)
