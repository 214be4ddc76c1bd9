"""Roles of PostgreSQL and their privileges, derived from the matrix. Pure: migrations and dbt grant them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from data_platform_core.access.matrix import Matrix, PostgresAccess, Schema, TablePrivilege
from data_platform_core.access.names import role
from data_platform_core.naming import (
    COMPLETIONS_TABLE,
    DLQ_ERRORS_TABLE,
    ERRORS_SCHEMA,
    LANDING_SCHEMA,
    LOADING_SCHEMA,
    LOADS_TABLE,
    MARTS_SCHEMA,
    OPS_SCHEMA,
    PLATFORM_SCHEMA,
    RETRY_HISTORY_TABLE,
    SLA_DEFINITIONS_TABLE,
    SLA_VIOLATIONS_TABLE,
    STAGING_SCHEMA,
)

SCHEMA_NAMES: Final = {
    Schema.LANDING: LANDING_SCHEMA,
    Schema.PLATFORM: PLATFORM_SCHEMA,
    Schema.LOADING: LOADING_SCHEMA,
    Schema.STAGING: STAGING_SCHEMA,
    Schema.MARTS: MARTS_SCHEMA,
    Schema.OPS: OPS_SCHEMA,
    Schema.ERRORS: ERRORS_SCHEMA,
}
#: The single tables of the matrix: its key, and the table's name with the schema. Migrations create them.
TABLES: Final = {
    "loads": LOADS_TABLE,
    "completions": COMPLETIONS_TABLE,
    "sla_definitions": SLA_DEFINITIONS_TABLE,
    "sla_violations": SLA_VIOLATIONS_TABLE,
    "dlq_errors": DLQ_ERRORS_TABLE,
    "retry_history": RETRY_HISTORY_TABLE,
}


@dataclass(frozen=True)
class Grants:
    """Privileges of one role, as in a GRANT statement; empty means none.

    `schemas`: by name, every schema of the warehouse. `landing`: on each landing table; `tables`: by name with the
    schema, every table of `TABLES`; `load_numbers`: on the sequence that numbers loads. dbt grants the tables of
    staging and marts itself.
    """

    role: str
    schemas: dict[str, str]
    landing: str
    tables: dict[str, str]
    load_numbers: str
    database: str


def owner(matrix: Matrix) -> str:
    """The service that owns the database and runs the migrations."""
    return next(service for service, access in matrix.postgres.items() if access.owner)


def roles(matrix: Matrix) -> tuple[str, ...]:
    """Every role that logs in."""
    return tuple(role(service) for service in matrix.postgres)


def statistics_roles(matrix: Matrix) -> tuple[str, ...]:
    """Roles that read the server's statistics: members of `pg_monitor`."""
    return tuple(role(service) for service, access in matrix.postgres.items() if access.statistics)


def marts_readers(matrix: Matrix) -> tuple[str, ...]:
    """Roles that dbt grants SELECT on every mart."""
    return tuple(role(service) for service, access in matrix.postgres.items() if access.marts)


def grants(matrix: Matrix) -> tuple[Grants, ...]:
    """Privileges of each role in the warehouse, without the owner, which has all."""
    return tuple(_grants(service, access) for service, access in matrix.postgres.items() if not access.owner)


def _grants(service: str, access: PostgresAccess) -> Grants:
    return Grants(
        role=role(service),
        schemas={name: _on_schema(schema, access) for schema, name in SCHEMA_NAMES.items()},
        landing=_joined(access.landing),
        tables={table: _joined(getattr(access, key)) for key, table in TABLES.items()},
        # A load draws its number before it writes its row.
        load_numbers="USAGE" if TablePrivilege.INSERT in access.loads else "",
        database="TEMPORARY" if access.temporary_tables else "",
    )


def _on_schema(schema: Schema, access: PostgresAccess) -> str:
    if schema in access.creates_in:
        return "USAGE, CREATE"
    used = {table.partition(".")[0] for key, table in TABLES.items() if getattr(access, key)}
    whole = {Schema.LANDING: access.landing, Schema.MARTS: access.marts}
    return "USAGE" if whole.get(schema) or SCHEMA_NAMES[schema] in used else ""


def _joined(privileges: Iterable[TablePrivilege]) -> str:
    return ", ".join(privilege.upper() for privilege in privileges)
