"""`crm`: the platform's core, one command per task.

Exit codes: 0 done, 1 an equation of the accounting does not hold, 2 a mistake in options, files or settings, 3 a
service is unavailable or misconfigured.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Annotated

import typer

from data_platform_core import command_line
from data_platform_core.accounting.cli import drain, reconcile
from data_platform_core.contracts import load_contract
from data_platform_core.governance.cli import sla
from data_platform_core.intervals import last_hour, parse_interval
from data_platform_core.jobs import LOAD, MARTS
from data_platform_core.kafka.cli import acls, registry, topics
from data_platform_core.lake.cli import Entity, diff, history
from data_platform_core.settings import Settings, load_settings
from data_platform_core.topology import load_topology

IntervalOption = Annotated[
    str | None,
    typer.Option(
        help="The data interval whose outcome is recorded, START/END in ISO 8601. Without it the last whole hour; then "
        "a run of a part of the job records nothing."
    ),
]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
warehouse = typer.Typer(no_args_is_help=True, help="The PostgreSQL warehouse.")
stream = typer.Typer(no_args_is_help=True, help="Kafka to Delta.")
lake = typer.Typer(no_args_is_help=True, help="Bronze and silver: versions, import of files, the writer lease.")
dbt = typer.Typer(no_args_is_help=True, help="The marts.")

app.add_typer(topics, name="topics")
app.add_typer(acls, name="acls")
app.add_typer(registry, name="registry")
app.add_typer(warehouse, name="warehouse")
app.add_typer(stream, name="stream")
app.add_typer(dbt, name="dbt")
app.add_typer(lake, name="lake")
app.add_typer(sla, name="sla")
app.command("reconcile")(reconcile)
stream.command("drain")(drain)
lake.command("history")(history)
lake.command("diff")(diff)


@app.callback()
def environment(
    context: typer.Context,
    env: Annotated[str | None, typer.Option("--env", help="Environment: a file of topology/.")] = None,
) -> None:
    """Commands of the CRM data platform. The environment defaults to CRM_ENVIRONMENT, then `local`."""
    context.obj = env


@warehouse.command("migrate")
def migrate(context: typer.Context) -> None:
    """Update the warehouse's schemas, tables and roles."""
    from data_platform_core.warehouse import schema

    schema.migrate(load_settings("admin", context.obj))


@warehouse.command("downgrade")
def downgrade(
    context: typer.Context,
    to: Annotated[str, typer.Option(help="The revision that stays, or `base`. `crm warehouse migrate` goes up again.")],
) -> None:
    """Take back migrations for an older release. Rows are kept: tables with rows move to the schema `retired`."""
    from data_platform_core.warehouse import schema

    schema.downgrade(load_settings("admin", context.obj), to)


@warehouse.command("reset")
def reset(
    context: typer.Context, yes: Annotated[bool, typer.Option("--yes", help="Delete without a question.")] = False
) -> None:
    """Delete every row and model of the warehouse of local or test; the next load reads all of silver again."""
    from data_platform_core.warehouse import schema

    settings = load_settings("admin", context.obj)
    schema.require_disposable(settings)
    place = f"database {settings.postgres.database} at {settings.postgres.host}:{settings.postgres.port}"
    if not yes:
        typer.confirm(f"Delete every table of {place}?", abort=True)
    schema.reset(settings)
    typer.echo(f"{place} is empty")


def _recorded(
    settings: Settings, pipeline: str, interval: str | None, *, whole: bool
) -> AbstractContextManager[object]:
    """Record the run's outcome for `interval`, by default the last hour. A part of the job completes no interval."""
    from data_platform_core.warehouse.completions import recorded

    if interval is None and not whole:
        return nullcontext()
    chosen = parse_interval(interval) if interval else last_hour(datetime.now(UTC))
    return recorded(settings.postgres, pipeline, chosen)


@stream.command("run")
def run_stream(
    context: typer.Context,
    entity: Annotated[list[str] | None, typer.Option("--entity", help="Only this one; may be repeated.")] = None,
) -> None:
    """Ingest into bronze and silver until stopped."""
    from data_platform_core.streaming.driver import run

    run(load_settings("streaming", context.obj), entity or ())


@app.command("load")
def load(
    context: typer.Context,
    entity: Annotated[list[str] | None, typer.Option("--entity", help="Only this one; may be repeated.")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Empty the landing tables, load all of silver.")] = False,
    interval: IntervalOption = None,
) -> None:
    """Load new rows of silver into the warehouse."""
    from data_platform_core.batch.load_warehouse import run

    settings = load_settings("batch", context.obj)
    with _recorded(settings, LOAD, interval, whole=not entity):
        run(settings, entity or (), rebuild=rebuild)


@lake.command("import")
def import_landed(
    context: typer.Context, run_id: Annotated[str, typer.Option(help="A run of `crm-generator backfill --sink lake`.")]
) -> None:
    """Import the files of a lake backfill into bronze and silver; the stream must be stopped."""
    from data_platform_core.wire.ledger import check_run_id

    check_run_id(run_id)
    from data_platform_core.streaming.ingest.landing import import_run

    for entity, rows in import_run(load_settings("streaming", context.obj), run_id).items():
        typer.echo(f"{entity}: {rows:,} rows in bronze")


@lake.command("restore")
def restore_entity(
    context: typer.Context,
    entity: Entity,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Of silver: a version, or a time.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take bronze, silver and checkpoint of an entity back to a version; the stream must be stopped."""
    from data_platform_core.streaming.ingest.restore import plan, restore

    settings, contract = load_settings("streaming", context.obj), load_contract(entity)
    found = plan(settings, contract, version)
    typer.echo("\n".join(found.lines))
    if not yes:
        command_line.confirm("Go back? What is taken back stays readable for a week")
    restore(settings, contract, found.target.silver)
    typer.echo(f"{entity} is at batch {found.target.batch}; `crm lake history {entity}` shows it")


@lake.command("lease")
def show_lease(
    context: typer.Context,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Revoke it from a holder that can't be stopped; its writes will fail.")
    ] = False,
) -> None:
    """Show which process may write bronze and silver."""
    from data_platform_core.lake import lease_report

    settings = load_settings("streaming", context.obj)
    typer.echo(lease_report.take_over(settings) if take_over else lease_report.show(settings))


@dbt.command("build", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def build_marts(context: typer.Context, interval: IntervalOption = None) -> None:
    """Build and test the marts. Further arguments go to dbt: `crm dbt build --full-refresh`."""
    from data_platform_core.warehouse.dbt_runner import dbt_build

    settings = load_settings("dbt", context.obj)
    with _recorded(settings, MARTS, interval, whole=not set(context.args) - {"--full-refresh"}):
        dbt_build(settings, context.args)


@dbt.command("parse")
def parse_project(context: typer.Context) -> None:
    """Check that dbt can read the project; connects to nothing."""
    from data_platform_core.warehouse.dbt_runner import dbt_parse

    dbt_parse(load_settings("dbt", context.obj))


@dbt.command("freshness", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def check_freshness(context: typer.Context) -> None:
    """Compare each entity's newest load with its contract's limits. Further arguments go to dbt."""
    from data_platform_core.warehouse.dbt_runner import dbt_freshness

    dbt_freshness(load_settings("dbt", context.obj), context.args)


@dbt.command("docs")
def write_docs(context: typer.Context) -> None:
    """Write the marts' documentation and print its path."""
    from data_platform_core.warehouse.dbt_runner import dbt_docs

    typer.echo(dbt_docs(load_settings("dbt", context.obj)))


@app.command("jobs")
def list_jobs() -> None:
    """List the platform's jobs: command, account, required servers, and why a second run is safe."""
    from rich.console import Console
    from rich.table import Table

    from data_platform_core.jobs import load_jobs

    table = Table("job", "command", "as", "kind", "needs", "again", box=None, pad_edge=False)
    for job in load_jobs().values():
        run = " --run-id RUN" if job.takes_run_id else f" {job.arguments}" if job.arguments else ""
        needs = " ".join(sorted(job.needs))
        table.add_row(job.name, " ".join(job.command) + run, job.service, job.kind, needs, job.idempotent_by)
    Console(highlight=False).print(table)


@app.command("manifest", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def show_manifest(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="JOB", help="A job that `crm jobs` lists.")],
    run_id: Annotated[str | None, typer.Option(help="The run, for a job that works on one.")] = None,
) -> None:
    """Print what runs a job once on Kubernetes: `crm --env home manifest load-warehouse | kubectl create -f -`.

    Further arguments are the job's: `crm --env home manifest lake-restore orders 12 --yes`.
    """
    from data_platform_core.kubernetes.once import manifest_text

    typer.echo(manifest_text(name, load_topology(context.obj or "local"), run_id, context.args), nl=False)


@app.command("images")
def list_images(context: typer.Context) -> None:
    """List the images that an environment's pods run: folder of the Dockerfile, and name."""
    from data_platform_core.kubernetes.names import images
    from data_platform_core.kubernetes.services import kubernetes_of

    for folder, name in images(kubernetes_of(load_topology(context.obj or "local"))).items():
        typer.echo(f"{folder} {name}")


@app.command("secrets")
def show_secrets(context: typer.Context) -> None:
    """Print the Secrets that pods need, as they are: `crm --env home secrets | kubectl apply -f -`."""
    from data_platform_core.kubernetes.secrets import secrets_text

    typer.echo(secrets_text(load_topology(context.obj or "local")), nl=False)


@app.command("generate")
def generate_files(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a file has drifted.")] = False,
) -> None:
    """Write the files generated from contracts and topology."""
    from data_platform_core.generated import generate

    if check:
        generate.check()
        return
    for path in generate.write():
        typer.echo(f"wrote {path}")


def main() -> None:
    """Entry point: a user's mistake prints one line on stderr and exits with its code."""
    command_line.run(app)


if __name__ == "__main__":
    main()
