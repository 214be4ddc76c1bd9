"""`crm-dashboards`: write the dashboards and Grafana's provisioning."""

from __future__ import annotations

from typing import Annotated

import typer

from data_platform_core import command_line

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command("generate")
def generate_files(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a file has drifted.")] = False,
) -> None:
    """Write home-server-infra/monitoring/dashboards/*.json."""
    from monitoring_dashboards import generate

    if check:
        generate.check()
        return
    for path in generate.write():
        typer.echo(f"wrote {path}")


@app.command("grafana-env")
def grafana_env(
    env: Annotated[str, typer.Option("--env", help="Environment: a file of home-server-infra/topology.")] = "local",
) -> None:
    """Write the addresses and the reader's password for Grafana's provisioning; print only the file's path."""
    from monitoring_dashboards.provisioning import write_environment

    typer.echo(write_environment(env))


def main() -> None:
    """Entry point: a user's mistake prints one line on stderr and exits with its code."""
    command_line.run(app)
