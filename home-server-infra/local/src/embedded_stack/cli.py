"""`crm-stack`: the embedded stack on the command line; the Makefile's targets call it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from data_platform_core.errors import UserError
from data_platform_core.topology import load_topology
from embedded_stack import api

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
_console = Console()
Environment = Annotated[str, typer.Option("--env", help="Topology to run: a file name in home-server-infra/topology.")]


@app.command()
def up(env: Environment = "local") -> None:
    """Start every service, wait until all are healthy, then apply accounts, topics, schemas and migrations."""
    began = time.monotonic()

    def report(service: str, event: str) -> None:
        _console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {service:<10} {event}")

    api.up(env, report)
    _console.print(f"[green]stack {env} is up[/green] after {time.monotonic() - began:.1f} s")


@app.command()
def down(env: Environment = "local") -> None:
    """Stop every service. Data stays."""
    began = time.monotonic()
    with _console.status(f"stopping stack {env}"):
        api.down(env)
    _console.print(f"stack {env} is down after {time.monotonic() - began:.1f} s; its data stays")


@app.command()
def status(env: Environment = "local") -> None:
    """Show each service; exit code 0 only when all are healthy."""
    rows = api.status(env)
    table = Table(title=f"embedded stack: {env}")
    for column in ("service", "state", "pid", "address", "uptime", "RSS MB", "health"):
        table.add_column(column, justify="right" if column in ("pid", "uptime", "RSS MB") else "left")
    for row in rows:
        health = f"[red]{row.problem}[/red]" if row.problem else "[green]healthy[/green]"
        table.add_row(
            row.name, row.state, str(row.pid or "-"), row.address, f"{row.uptime:.0f} s", f"{row.rss_mb:.0f}", health
        )
    _console.print(table)
    if any(row.problem for row in rows):
        raise typer.Exit(1)


@app.command()
def clean(env: Environment = "local") -> None:
    """Delete the data, logs and secrets of one environment; refuses while it is up."""
    api.clean(env)
    _console.print(f"data of stack {env} is deleted")


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and its exit code."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
