"""`crm lake history` and `crm lake diff`: the versions of bronze and silver, read only."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from data_platform_core.contracts import load_contract
from data_platform_core.settings import load_settings

if TYPE_CHECKING:
    from data_platform_core.lake.versions import Version

_PIPE_WIDTH = 120

Entity = Annotated[str, typer.Argument(metavar="ENTITY", help="An entity of the contracts, such as orders.")]
Layer = Annotated[str, typer.Option(help="silver or bronze.")]


def history(
    context: typer.Context,
    entity: Entity,
    layer: Layer = "silver",
    limit: Annotated[int, typer.Option(min=1, help="The newest versions, so many of them.")] = 20,
) -> None:
    """List the versions of a table: what each did, its micro-batch, the rows of files that it added and removed."""
    from data_platform_core.lake.versions import TableVersions

    versions = TableVersions(load_settings("accounting", context.obj).object_store, load_contract(entity), layer)
    table = Table("version", "time (UTC)", "operation", "batch", box=None, pad_edge=False)
    for heading in ("added", "removed"):
        table.add_column(heading, justify="right")
    table.add_column("undone by")
    for version in versions.described(limit):
        table.add_row(*_cells(version))
    Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


def _cells(version: Version) -> tuple[str, ...]:
    commit = version.commit
    restored = "" if commit.restored_to is None else f" to {commit.restored_to}"
    return (
        str(commit.version),
        commit.time.strftime("%Y-%m-%d %H:%M:%S"),
        f"{commit.operation}{restored}",
        version.batch,
        *("not known" if rows is None else f"{rows:,}" for rows in (version.changed.added, version.changed.removed)),
        "" if version.undone_by is None else str(version.undone_by),
    )


def diff(
    context: typer.Context,
    entity: Entity,
    earlier: Annotated[str, typer.Argument(metavar="FROM", help="A version, or a time: 2026-03-01T12:00:00 (UTC).")],
    later: Annotated[
        str | None, typer.Argument(metavar="[TO]", help="The same; the newest version if left out.")
    ] = None,
    layer: Layer = "silver",
    limit: Annotated[int, typer.Option(min=0, help="Rows shown at most.")] = 20,
) -> None:
    """Show the rows that one version of a table has and the other does not, by key. A compaction shows none."""
    from data_platform_core.lake.diff import difference, row_key
    from data_platform_core.lake.versions import TableVersions

    contract, store = load_contract(entity), load_settings("accounting", context.obj).object_store
    versions = TableVersions(store, contract, layer)
    pair = versions.find(earlier), versions.newest if later is None else versions.find(later)
    found = difference(store, versions.folder, pair, row_key(contract, versions.folder), limit)
    typer.echo(
        f"{versions.folder}, version {pair[0]} to {pair[1]}: {found.added:,} rows added, {found.removed:,} removed; "
        f"{found.changed:,} keys are in both, with other values"
    )
    for sign, *values in found.examples:
        typer.echo(f"{sign} " + " ".join(f"{name}={value}" for name, value in zip(found.columns, values, strict=True)))
    left = found.added + found.removed - len(found.examples)
    if left and limit:
        typer.echo(f"... and {left:,} more; --limit shows them")
