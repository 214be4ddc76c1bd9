"""`crm sla`: service levels, which are rows."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from data_platform_core.errors import ConfigurationError
from data_platform_core.governance.definitions import Channel, Definition, Kind, problem
from data_platform_core.governance.evaluation import LOOKBACK
from data_platform_core.governance.pipelines import Pipeline
from data_platform_core.settings import load_settings
from data_platform_core.topology import load_topology

if TYPE_CHECKING:
    from data_platform_core.governance.repository import Notice

sla = typer.Typer(no_args_is_help=True, help="Service levels: deadlines of pipelines, and what missed them.")

_console = Console(highlight=False, soft_wrap=True)
#: Columns of a table in a pipe or a log, where a row must stay one line.
_PIPE_WIDTH = 200


@sla.command("check")
def check_all(context: typer.Context) -> None:
    """Check every service level once: open, close, escalate and notify violations. Exit code 0 if all were checked."""
    from data_platform_core.governance.check import Check, CheckError
    from data_platform_core.governance.repository import repository

    settings = load_settings("sla", context.obj)
    monitoring = load_topology(settings.environment).monitoring
    with repository(settings.postgres) as rows:
        report = Check(rows, rows.known_pipelines(), monitoring, settings.environment).run()
    for change in report.changes:
        _console.print(change)
    _console.print(f"service levels checked: {report.checked}, violations open: {report.open}")
    if report.problems:
        raise CheckError(report.problems)


@sla.command("list")
def list_all(context: typer.Context) -> None:
    """List every service level, with its open violations."""
    from data_platform_core.governance.repository import repository

    with repository(load_settings("sla", context.obj).postgres) as rows:
        definitions, pipelines = rows.definitions(), rows.known_pipelines()
        notices = {each.definition.definition_id: each for each in rows.notices(definitions) if each.is_open}
    table = Table("service level", "promise", "owner", "channel", "from", "state", box=None, pad_edge=False)
    for each in definitions:
        state = _state(each, notices.get(each.definition_id), pipelines)
        table.add_row(each.name, each.promise, each.owner, each.channel, each.origin, state)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    console.print(table)


def _state(definition: Definition, notice: Notice | None, pipelines: Mapping[str, Pipeline]) -> str:
    if not definition.enabled:
        return "disabled"
    if problem(definition, pipelines):
        return "can't be checked"
    return f"late since {notice.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if notice else "no violation"


@sla.command("add")
def add_one(  # noqa: PLR0913 - options of a command
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="A job, a DAG, a landing table or a streaming query.")],
    kind: Annotated[Kind, typer.Argument(help="hourly, daily or realtime.")],
    *,
    deadline_minutes: Annotated[int, typer.Option(min=1, help="After the hour, after midnight, or of age.")],
    owner: Annotated[str, typer.Option(help="Who answers for it.")],
    time_zone: Annotated[str, typer.Option(help="IANA name, for daily rows.")] = "UTC",
    channel: Annotated[Channel, typer.Option(help="Where a violation is notified.")] = Channel.ALL,
    escalate_after_minutes: Annotated[int, typer.Option(min=1, max=10_080, help="After the deadline.")] = 60,
    since: Annotated[
        str | None, typer.Option(help="Also check deadlines after this moment, ISO 8601 with a time zone.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change the row if there is one, and enable it.")] = False,
) -> None:
    """Add a service level; the next check watches it."""
    from data_platform_core.governance.repository import repository

    now = datetime.now(UTC)
    wanted = Definition(
        definition_id=0,
        pipeline=pipeline,
        kind=kind,
        deadline_minutes=deadline_minutes,
        time_zone=time_zone,
        owner=owner,
        channel=channel,
        enabled=True,
        escalate_after_minutes=escalate_after_minutes,
        watched_since=_moment(since, now) if since else now,
        origin="person",
    )
    with repository(load_settings("admin", context.obj).postgres) as rows:
        if wrong := problem(wanted, rows.known_pipelines()):
            raise ConfigurationError(wrong)
        if not rows.add(wanted, replace=replace):
            raise ConfigurationError(f"SLA {wanted.name} exists already; give --replace to change it")
    _console.print(f"added {wanted.name}: {wanted.promise}")


@sla.command("disable")
def disable(context: typer.Context, name: Annotated[str, typer.Argument(help="As `crm sla list` shows it.")]) -> None:
    """Stop watching a service level; the next check closes its violations."""
    _switch(context, name, enabled=False)


@sla.command("enable")
def enable(context: typer.Context, name: Annotated[str, typer.Argument(help="As `crm sla list` shows it.")]) -> None:
    """Watch a service level again, from now on."""
    _switch(context, name, enabled=True)


def _switch(context: typer.Context, name: str, *, enabled: bool) -> None:
    from data_platform_core.governance.repository import repository

    with repository(load_settings("admin", context.obj).postgres) as rows:
        if not rows.switch(name, enabled=enabled):
            known = ", ".join(each.name for each in rows.definitions())
            raise ConfigurationError(f"SLA {name!r} does not exist; known: {known or 'none'}")
    _console.print(f"{'enabled' if enabled else 'disabled'} {name}")


def _moment(text: str, now: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.utcoffset() is not None and now - LOOKBACK <= moment <= now:
            return moment
    except ValueError:
        pass
    raise ConfigurationError(
        f"--since {text!r} is no moment of the last {LOOKBACK.days} days; give ISO 8601 with a time zone, as "
        f"{now:%Y-%m-%dT%H:00Z}"
    )
