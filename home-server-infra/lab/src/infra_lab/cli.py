"""`crm-lab`: a Proxmox host with test hosts on this machine; the Makefile's `lab-` targets call it."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer
from rich.table import Table

from data_platform_core import command_line
from data_platform_core.errors import ConfigurationError, UserError
from infra_lab import chain, needs
from infra_lab import lab as labs
from infra_lab.clock import Clock, console
from infra_lab.kubernetes.cli import app as kubernetes
from infra_lab.layout import ANSIBLE_BIN
from infra_lab.proxmox_api.faults import FAILURES, NEXT

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(kubernetes, name="k8s")


@app.command()
def up() -> None:
    """Set up image, network, apt cache, Proxmox API, secrets and Kafka's archive; then the playbooks can run."""
    lab, clock = labs.this_lab(), Clock()
    with console.status("lab"):
        labs.up(lab, clock)
    console.print(f"the lab is up after {clock.seconds:.1f} s; run playbooks against it:", highlight=False)
    for playbook in ("proxmox", "site", "validate"):
        command = shlex.join(labs.playbook_command(lab, playbook)[1:])
        console.print(f"  (cd ansible && {ANSIBLE_BIN}/ansible-playbook {command})", highlight=False, soft_wrap=True)
    console.print("everything, with injected faults: make lab-test", highlight=False)


@app.command()
def down(
    delete: Annotated[bool, typer.Option("--delete", help="Also delete the hosts with their data.")] = False,
) -> None:
    """Stop hosts, API, cache and network. Hosts keep their data, and start again with `proxmox.yml`."""
    lab, clock = labs.this_lab(), Clock()
    needs.require(lab.layout.root, for_image=False)
    with console.status("ending the lab"):
        labs.down(lab, clock, delete)
    kept = "its hosts are deleted" if delete else "its hosts keep their data"
    console.print(f"the lab is down after {clock.seconds:.1f} s; {kept}", highlight=False)


@app.command()
def status() -> None:
    """Show what runs, what is missing, and scheduled failures."""
    table = Table(title="lab")
    for column in ("what", "state", "detail"):
        table.add_column(column)
    for row in labs.status(labs.this_lab()):
        table.add_row(row.name, row.state, row.detail)
    console.print(table)


@app.command()
def fail(
    kind: Annotated[str, typer.Argument(help=f"One of: {', '.join((*FAILURES, NEXT))}.")],
    count: Annotated[int, typer.Option(min=0, help="How many times; 0 cancels.")] = 1,
) -> None:
    """Make the next tasks of the Proxmox API fail, to test how a playbook handles it."""
    if kind not in (*FAILURES, NEXT):
        raise ConfigurationError(f"failure {kind} is unknown; one of: {', '.join((*FAILURES, NEXT))}")
    labs.this_lab().faults.order(kind, count)
    console.print(f"the next {count} of kind {kind} will fail" if count else f"no {kind} will fail", highlight=False)


@app.command()
def kill(host: Annotated[str, typer.Argument(help="A host of topology/lab.yaml.")]) -> None:
    """Kill one host, as by a power failure."""
    lab = labs.this_lab()
    needs.require(lab.layout.root, for_image=False)
    lab.hosts.kill(lab.test_host(host))
    console.print(f"{host} is down; proxmox.yml starts it again", highlight=False)


@app.command("test")
def run_chain(
    first: Annotated[
        str | None, typer.Option("--from", help="Start with the step whose name begins with this.")
    ] = None,
    name: Annotated[str, typer.Option("--chain", help=f"One of: {', '.join(chain.CHAINS)}.")] = "kafka",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab up at the end.")] = False,
) -> None:
    """Run a chain against a fresh lab: build, validate, break, refuse, tear down. Stops at the first failure."""
    steps = chain.steps(name, first)  # checked before any host is deleted
    lab, clock = labs.this_lab(), Clock()
    if first is None:
        needs.require(lab.layout.root)
        labs.down(lab, lambda text: None, delete=True)
    labs.up(lab, clock)
    table = Table(title=f"lab test, chain {name}")
    for column in ("step", "s", "seen"):
        table.add_column(column, justify="right" if column == "s" else "left")

    def report(name: str, seconds: float, seen: str) -> None:
        clock(f"{name}: {seen}")
        table.add_row(name, f"{seconds:.1f}", seen)

    try:
        chain.run(lab, report, steps)
    except UserError:
        # Left running, to investigate the error.
        console.print(table)
        console.print("the lab stays up as it was at the failure; `make lab-down` ends it", highlight=False)
        raise
    if not keep:
        labs.down(lab, clock, delete=True)
    console.print(table)
    console.print(f"all checks passed in {clock.seconds:.0f} s", highlight=False)


def main() -> None:
    """Entry point: a user's mistake prints one line on stderr and exits with its code."""
    command_line.run(app)
