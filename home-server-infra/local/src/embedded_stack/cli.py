"""`crm-stack`: the embedded stack on the command line; the Makefile's targets call it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from data_platform_core import command_line
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.topology import load_topology
from embedded_stack import api
from embedded_stack.credentials import read_account
from embedded_stack.layout import Layout
from embedded_stack.postgres_server import write_passfile
from embedded_stack.services import services

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
# Piped, rich would squeeze tables into 80 columns.
_console = Console(width=None if sys.stdout.isatty() else 120)
Service = Annotated[str, typer.Argument(help="A service of `make status`.")]
Environment = Annotated[str, typer.Option("--env", help="Environment: a file of home-server-infra/topology.")]
LOG_LINES = 200


@app.command()
def up(
    env: Environment = "local",
    more: Annotated[str, typer.Option("--with", help="More profiles to start, comma-separated.")] = "",
) -> None:
    """Start the services, wait until all are healthy, then apply accounts, topics, schemas and migrations."""
    began = time.monotonic()
    profiles = [name for name in more.replace(" ", "").split(",") if name]

    def report(service: str, event: str) -> None:
        spent = time.monotonic() - began
        _console.print(f"[dim]{spent:6.1f} s[/dim]  {service:<18} {event}", highlight=False, soft_wrap=True)

    with _console.status(f"stack {env}"):
        api.up(env, report, profiles=profiles)
    _console.print(f"stack {env} is up and healthy after {time.monotonic() - began:.1f} s", highlight=False)


@app.command()
def start(service: Service, env: Environment = "local") -> None:
    """Start one service that `up` does not start, such as `streaming`, and wait until it is healthy."""
    with _console.status(f"starting {service}"):
        api.start(env, service)
    _console.print(f"{service} runs")


@app.command()
def stop(service: Service, env: Environment = "local") -> None:
    """Stop one service."""
    with _console.status(f"stopping {service}"):
        api.stop(env, service)
    _console.print(f"{service} is stopped")


@app.command()
def down(env: Environment = "local") -> None:
    """Stop every service. Data is kept."""
    began = time.monotonic()
    with _console.status(f"stopping stack {env}"):
        api.down(env)
    _console.print(f"stack {env} is down after {time.monotonic() - began:.1f} s; its data stays", highlight=False)


@app.command()
def status(env: Environment = "local") -> None:
    """Show each service; exit code 0 only when all are healthy, else 3."""
    rows = api.status(env)
    table = Table(title=f"embedded stack: {env}")
    for column in ("service", "state", "pid", "address", "uptime s", "RSS MB", "health"):
        table.add_column(column, justify="right" if column in ("pid", "uptime s", "RSS MB") else "left")
    for row in rows:
        health = f"[red]{row.problem}[/red]" if row.problem else "[green]healthy[/green]" if row.pid else "on demand"
        table.add_row(
            row.name, row.state, str(row.pid or "-"), row.address, f"{row.uptime:.0f}", f"{row.rss_mb:.0f}", health
        )
    _console.print(table)
    if any(row.problem for row in rows):
        raise typer.Exit(ServiceError.exit_code)


@app.command()
def logs(
    env: Environment = "local",
    service: Annotated[str | None, typer.Option(help="Only this service; default: all.")] = None,
    follow: Annotated[bool, typer.Option(help="Follow until interrupted.")] = sys.stdout.isatty(),
) -> None:
    """Show the end of the services' logs."""
    layout = Layout(load_topology(env))
    known = [each.name for each in services(layout)]
    if service is not None and service not in known:
        raise ConfigurationError(f"service {service} is not part of the stack; one of: {', '.join(known)}")
    files = [str(path) for name in ([service] if service else known) if (path := layout.logs / f"{name}.log").exists()]
    if not files:
        raise ServiceError(f"no logs in {layout.logs} yet; start the stack with `make up ENV={env}`")
    os.execvp("tail", ["tail", "-n", str(LOG_LINES), *(["-F"] if follow else []), *files])


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context, env: Environment = "local") -> None:
    """Open psql on the warehouse as the reader; other options are passed to psql."""
    layout = Layout(load_topology(env))
    if shutil.which("psql") is None:
        raise ServiceError("tool psql is missing; `make setup` installs postgresql-client")
    account = read_account(layout.secrets, "reader")
    passfile = layout.secrets / "reader.pgpass"
    write_passfile(layout.topology, account, passfile)
    postgres = layout.topology.postgres
    user, _ = account.postgres_login
    where = f"host={postgres.host} port={postgres.port} dbname={postgres.database} user={user} passfile={passfile}"
    os.execvp("psql", ["psql", *context.args, where])


@app.command()
def clean(env: Environment = "local") -> None:
    """Delete the data, logs and secrets of one environment; refuses while it is up."""
    api.clean(env)
    _console.print(f"data of stack {env} is deleted")


@app.command()
def alerts(env: Environment = "local") -> None:
    """Show firing alerts and the last messages of the alert sink."""
    from embedded_stack.monitoring import report

    report.show(load_topology(env), _console)


def main() -> None:
    """Entry point: a user's mistake prints one line on stderr and exits with its code."""
    command_line.run(app)
