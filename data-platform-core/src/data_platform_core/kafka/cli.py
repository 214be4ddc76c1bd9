"""`crm topics`, `crm acls` and `crm registry`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from data_platform_core.contracts import load_contract, load_contracts
from data_platform_core.errors import ServiceError
from data_platform_core.kafka.topics import Change, Kind
from data_platform_core.settings import load_settings

topics = typer.Typer(no_args_is_help=True, help="Topics from contracts and topology.")
acls = typer.Typer(no_args_is_help=True, help="Kafka's access rules from the matrix of accounts.")
registry = typer.Typer(no_args_is_help=True, help="The contracts' schemas in the schema registry.")

_console = Console(highlight=False, soft_wrap=True)


def _show(change: Change) -> None:
    _console.print(f"{change.kind.value:>15}  {change.wanted.name}  {change.detail}")


@topics.command("plan")
def plan_topics(context: typer.Context) -> None:
    """Show what `apply` would change. Changes nothing; fails if `apply` would refuse."""
    from data_platform_core.kafka.topics import plan

    changes = plan(load_settings("admin", context.obj), load_contracts())
    for change in changes:
        _show(change)
    refused = [change for change in changes if change.kind is Kind.REFUSED]
    if refused:
        raise ServiceError(refused[0].detail)
    _console.print(f"{len(changes)} changes" if changes else "topics match contracts and topology")


@topics.command("apply")
def apply_topics(context: typer.Context) -> None:
    """Create topics, add partitions, set configuration. A second call changes nothing."""
    from data_platform_core.kafka.topics import apply

    changes = apply(load_settings("admin", context.obj), load_contracts(), on_change=_show)
    _console.print(f"{len(changes)} changes made" if changes else "topics match contracts and topology")


@topics.command("grow")
def grow_topic(
    context: typer.Context,
    entity: Annotated[str, typer.Argument(help="Entity whose topic gets more partitions.")],
    partitions: Annotated[int, typer.Option(min=1, help="New total number of partitions.")],
) -> None:
    """Add partitions now, for example during a spike. To keep them, write the number into the contract."""
    from data_platform_core.kafka.topics import grow

    contract = load_contract(entity)
    before = grow(load_settings("admin", context.obj), contract, partitions)
    _console.print(f"{contract.names.topic}  {before} -> {partitions} partitions; order per key starts over")


@topics.command("verify")
def verify(context: typer.Context) -> None:
    """Fail when a topic is missing or has too few partitions or replicas."""
    from data_platform_core.kafka.topics import verify_topics

    contracts = load_contracts()
    verify_topics(load_settings("admin", context.obj), contracts)
    _console.print(f"topics of {', '.join(contracts)} exist, with their partitions and replicas")


@acls.command("plan")
def plan_rules(context: typer.Context) -> None:
    """Show what `apply` would change. Changes nothing."""
    from data_platform_core.kafka.acls import plan

    changes = plan(load_settings("admin", context.obj), load_contracts())
    for change in changes:
        _console.print(f"{change.kind.value:>15}  {change}")
    _console.print(f"{len(changes)} changes" if changes else "rules match the contracts")


@acls.command("apply")
def apply_rules(context: typer.Context) -> None:
    """Create missing rules, revoke surplus ones of our principals. A second call changes nothing."""
    from data_platform_core.kafka.acls import apply

    changes = apply(
        load_settings("admin", context.obj),
        load_contracts(),
        on_change=lambda change: _console.print(f"{change.kind.value:>15}  {change}"),
    )
    _console.print(f"{len(changes)} changes made" if changes else "rules match the contracts")


@acls.command("verify")
def verify_acls(context: typer.Context) -> None:
    """Fail when a rule is missing or surplus."""
    from data_platform_core.kafka.acls import verify_rules

    verify_rules(load_settings("admin", context.obj), load_contracts())
    _console.print("rules match the contracts")


@registry.command("apply")
def apply_schemas(context: typer.Context) -> None:
    """Register every contract's schema under BACKWARD compatibility. A second call changes nothing."""
    from data_platform_core.kafka.registry import RegistryClient

    contracts = load_contracts()
    ids = RegistryClient(load_settings("admin", context.obj).registry).apply(contracts.values())
    for entity, schema_id in ids.items():
        _console.print(f"{contracts[entity].names.subject}  schema id {schema_id}")
