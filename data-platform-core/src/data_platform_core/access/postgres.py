"""Roles of PostgreSQL and their privileges, derived from the matrix. Pure: migrations and dbt grant them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from data_platform_core.access.matrix import Matrix, PostgresAccess, Schema, TablePrivilege
from data_platform_core.access.names import role
from data_platform_core.naming import (
    LANDING_SCHEMA,
    LOADING_SCHEMA,
    MARTS_SCHEMA,
    PLATFORM_SCHEMA,
    STAGING_SCHEMA,
)

SCHEMA_NAMES: Final = {
    Schema.LANDING: LANDING_SCHEMA,
    Schema.PLATFORM: PLATFORM_SCHEMA,
    Schema.LOADING: LOADING_SCHEMA,
    Schema.STAGING: STAGING_SCHEMA,
    Schema.MARTS: MARTS_SCHEMA,
}


@dataclass(frozen=True)
class Grants:
    """Privileges of one role, as in a GRANT statement; empty means none.

    `schemas`: by name, every schema of the warehouse. `landing`: on each landing table; `loads`: on the record of
    loads; `load_numbers`: on the sequence that numbers them. dbt grants the tables of staging and marts itself.
    """

    role: str
    schemas: dict[str, str]
    landing: str
    loads: str
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
        loads=_joined(access.loads),
        # A load draws its number before it writes its row.
        load_numbers="USAGE" if TablePrivilege.INSERT in access.loads else "",
        database="TEMPORARY" if access.temporary_tables else "",
    )


def _on_schema(schema: Schema, access: PostgresAccess) -> str:
    if schema in access.creates_in:
        return "USAGE, CREATE"
    tables = {Schema.LANDING: access.landing, Schema.PLATFORM: access.loads, Schema.MARTS: access.marts}
    return "USAGE" if tables.get(schema) else ""


def _joined(privileges: Iterable[TablePrivilege]) -> str:
    return ", ".join(privilege.upper() for privilege in privileges)
