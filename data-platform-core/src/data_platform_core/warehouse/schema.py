"""Updates the warehouse's schemas, tables and grants in one transaction.

Three parts: what the platform itself needs (Alembic revisions in `migrations/versions`), the landing tables, which
follow the contracts, and the service levels that come with both. A new entity or a new nullable field is added; a
changed type is refused, because stored rows have the old one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import psycopg
import sqlalchemy
import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection

from data_platform_core.access import postgres
from data_platform_core.access.matrix import load_matrix
from data_platform_core.access.names import role
from data_platform_core.contracts import IDEMPOTENCY_KEY, Contract, load_contracts
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.naming import LANDING_SCHEMA, PLATFORM_SCHEMA, RETIRED_SCHEMA
from data_platform_core.settings import Settings
from data_platform_core.warehouse import service_levels
from data_platform_core.warehouse.columns import Column, landing_columns
from data_platform_core.warehouse.connections import connect

MIGRATIONS_DIR = Path(__file__).parent / "migrations"
#: Environments of which the warehouse may be reset.
DISPOSABLE = ("local", "test")
#: A reset waits this long for other sessions, seconds.
LOCK_WAIT_S = 10
#: Alembic's name for a database without any revision.
BASE = "base"
#: Advisory lock that keeps two migrations apart; any number, the same for all.
_MIGRATION_LOCK = 7_302_026

log = structlog.get_logger(__name__)


def migrate(settings: Settings, contracts: Mapping[str, Contract] | None = None) -> None:
    """Update the database of `settings` (of the admin role) to revisions and contracts; idempotent.

    All or nothing: one transaction. Raises ServiceError when the server refuses us, a role is missing, or a contract
    changed the type of a stored column; ConfigurationError when a contract can't be stored at all.
    """
    contracts = load_contracts() if contracts is None else contracts
    with _migrating(settings) as (transaction, connection):
        _migrate(transaction, connection, contracts)


def reset(settings: Settings) -> None:
    """Drop every schema of ours with all rows and models, and migrate, in one transaction.

    Raises ConfigurationError outside `DISPOSABLE`, ServiceError when a table is in use for longer than LOCK_WAIT_S.
    """
    require_disposable(settings)
    with _migrating(settings) as (transaction, connection):
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{LOCK_WAIT_S}s")))
        try:
            for schema in (*postgres.SCHEMA_NAMES.values(), RETIRED_SCHEMA):
                connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
        except psycopg.errors.LockNotAvailable:
            raise ServiceError(
                f"database {settings.postgres.database} is in use for more than {LOCK_WAIT_S} s; end loads and builds, "
                "then reset it again"
            ) from None
        _migrate(transaction, connection, load_contracts())


def require_disposable(settings: Settings) -> None:
    """Raises ConfigurationError for an environment whose warehouse must not be reset."""
    if settings.environment not in DISPOSABLE:
        raise ConfigurationError(
            f"the warehouse of {settings.environment} is not reset; only those of {' and '.join(DISPOSABLE)} are"
        )


def _migrate(transaction: Connection, connection: psycopg.Connection, contracts: Mapping[str, Contract]) -> None:
    _require_roles(connection)
    for schema in postgres.SCHEMA_NAMES.values():
        _create_schema(connection, schema)
    command.upgrade(_alembic(transaction), "head")
    for contract in contracts.values():
        _follow_contract(connection, contract)
    service_levels.follow(connection, contracts.values())
    _grant(connection, contracts)


def downgrade(settings: Settings, revision: str) -> None:
    """Take back the revisions after `revision` (`base`: all), in one transaction; no row is deleted.

    Landing tables stay as they are. Raises ConfigurationError for a revision that does not exist or is not below the
    database's, ServiceError when the server refuses us.
    """
    with _migrating(settings) as (transaction, connection):
        config = _alembic(transaction)
        known = [found.revision for found in ScriptDirectory.from_config(config).walk_revisions()]
        current = _revision(connection)
        below = [*known[known.index(current) + 1 :], BASE] if current in known else []
        if revision not in below:
            raise ConfigurationError(
                f"revision {revision!r} is not below the warehouse's ({current}); one of: {', '.join(below) or 'none'}"
            )
        command.downgrade(config, revision)
        log.info("taken back", revision=revision, was=current)


@contextmanager
def _migrating(settings: Settings) -> Iterator[tuple[Connection, psycopg.Connection]]:
    """One transaction that no other migration runs beside: SQLAlchemy's connection, and the driver's below it."""
    # SQLAlchemy (for Alembic) owns the transaction; everything else runs on its connection.
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(settings.postgres, "crm-migrate"),
        poolclass=sqlalchemy.NullPool,
    )
    with engine.begin() as transaction:
        connection = cast("psycopg.Connection", transaction.connection.driver_connection)
        try:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
            yield transaction, connection
        except (psycopg.errors.InsufficientPrivilege, sqlalchemy.exc.ProgrammingError) as error:
            cause = getattr(error, "orig", error)  # SQLAlchemy wraps the driver's error
            if not isinstance(cause, psycopg.errors.InsufficientPrivilege):
                raise
            raise ServiceError(
                f"PostgreSQL role {settings.postgres.user!r} may not change the warehouse "
                f"({cause.diag.message_primary}); run migrations as {role(postgres.owner(load_matrix()))}"
            ) from None


def _alembic(transaction: Connection) -> Config:
    """Alembic's configuration; `migrations/env.py` runs the revisions inside the caller's transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_DIR))
    config.attributes["connection"] = transaction
    config.attributes["version_schema"] = PLATFORM_SCHEMA
    return config


def _revision(connection: psycopg.Connection) -> str:
    """The database's revision; BASE for none."""
    table = f"{PLATFORM_SCHEMA}.alembic_version"
    if connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() == (None,):
        return BASE
    row = connection.execute(f"SELECT version_num FROM {table}").fetchone()
    return str(row[0]) if row else BASE


def _require_roles(connection: psycopg.Connection) -> None:
    wanted = sorted(postgres.roles(load_matrix()))
    found = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", (wanted,))}
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ServiceError(f"PostgreSQL has no role {missing[0]!r}; the stack creates the roles, run `make up` first")


def _create_schema(connection: psycopg.Connection, schema: str) -> None:
    # Not `IF NOT EXISTS`: that requires the privilege to create even if the schema exists.
    if connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone() is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))


def _follow_contract(connection: psycopg.Connection, contract: Contract) -> None:
    """Create the entity's landing table, or add the contract's new fields."""
    wanted = landing_columns(contract)
    found = _stored_columns(connection, contract.entity)
    if not found:
        _create_table(connection, contract.entity, wanted)
        log.info("landing table created", table=contract.names.landing_table, columns=len(wanted))
    else:
        _alter_table(connection, contract, wanted, found)
    table = sql.Identifier(LANDING_SCHEMA, contract.entity)
    comment = sql.Literal(f"{contract.description} Grain: {contract.grain}.")
    connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, comment))
    for column in wanted:
        target = sql.Identifier(LANDING_SCHEMA, contract.entity, column.name)
        connection.execute(sql.SQL("COMMENT ON COLUMN {} IS {}").format(target, sql.Literal(column.comment)))


def _stored_columns(connection: psycopg.Connection, table: str) -> dict[str, tuple[str, bool]]:
    """Type and nullability by column of a landing table; empty if it does not exist."""
    rows = connection.execute(
        """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
        """,
        (LANDING_SCHEMA, table),
    )
    return {name: (sql_type, nullable) for name, sql_type, nullable in rows}


def _definition(column: Column) -> sql.Composed:
    suffix = "" if column.nullable else " NOT NULL"
    return sql.SQL("{} " + column.sql_type + suffix).format(sql.Identifier(column.name))


def _create_table(connection: psycopg.Connection, name: str, columns: tuple[Column, ...]) -> None:
    table = sql.Identifier(LANDING_SCHEMA, name)
    definitions = sql.SQL(", ").join([_definition(column) for column in columns])
    key = sql.Identifier(IDEMPOTENCY_KEY)
    connection.execute(sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}))").format(table, definitions, key))
    # Rows arrive in the order of load_id: a block range index finds new ones at almost no cost to a load.
    connection.execute(sql.SQL("CREATE INDEX ON {} USING brin (load_id) WITH (pages_per_range = 32)").format(table))


def _alter_table(
    connection: psycopg.Connection, contract: Contract, wanted: tuple[Column, ...], found: dict[str, tuple[str, bool]]
) -> None:
    table = sql.Identifier(LANDING_SCHEMA, contract.entity)
    for column in wanted:
        if column.name not in found:
            _add_column(connection, contract, column)
            continue
        stored_type, stored_nullable = found[column.name]
        if stored_type != column.sql_type:
            raise ServiceError(
                f"table {contract.names.landing_table}: column {column.name} is {stored_type}, the contract now says "
                f"{column.sql_type}; a stored type can't change: add a new field to the contract instead"
            )
        if column.nullable and not stored_nullable:
            _drop_not_null(connection, table, column.name)
    # A field removed from the contract keeps its column, so that no stored value is lost; new rows have null in it.
    gone = set(found) - {column.name for column in wanted}
    for name in sorted(gone):
        if not found[name][1]:
            _drop_not_null(connection, table, name)


def _add_column(connection: psycopg.Connection, contract: Contract, column: Column) -> None:
    if not column.nullable:
        raise ServiceError(
            f"table {contract.names.landing_table}: the contract's new field {column.name} is not nullable, but stored "
            f"rows have no value for it; make it a union with null"
        )
    table = sql.Identifier(LANDING_SCHEMA, contract.entity)
    connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(table, _definition(column)))
    log.info("landing column added", table=contract.names.landing_table, column=column.name, type=column.sql_type)


def _drop_not_null(connection: psycopg.Connection, table: sql.Identifier, column: str) -> None:
    connection.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(table, sql.Identifier(column)))


def _grant(connection: psycopg.Connection, contracts: Mapping[str, Contract]) -> None:
    """Grant exactly the matrix's privileges: others on our schemas and tables are revoked."""
    landing = [sql.Identifier(LANDING_SCHEMA, entity) for entity in contracts]
    load_numbers = sql.Identifier(PLATFORM_SCHEMA, "loads_load_id_seq")
    database = sql.Identifier(connection.info.dbname)
    for grants in postgres.grants(load_matrix()):
        grantee = sql.Identifier(grants.role)
        for schema, privileges in grants.schemas.items():
            _set_privileges(connection, sql.SQL("SCHEMA {}").format(sql.Identifier(schema)), privileges, grantee)
        for table in landing:
            _set_privileges(connection, sql.SQL("TABLE {}").format(table), grants.landing, grantee)
        for name, privileges in grants.tables.items():
            single = sql.SQL("TABLE {}").format(sql.Identifier(*name.split(".")))
            _set_privileges(connection, single, privileges, grantee)
        _set_privileges(connection, sql.SQL("SEQUENCE {}").format(load_numbers), grants.load_numbers, grantee)
        if grants.database:  # the servers' set-up grants CONNECT, so nothing is revoked here
            target = sql.SQL("DATABASE {}").format(database)
            connection.execute(sql.SQL("GRANT " + grants.database + " ON {} TO {}").format(target, grantee))


def _set_privileges(
    connection: psycopg.Connection, target: sql.Composable, privileges: str, grantee: sql.Identifier
) -> None:
    connection.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(target, grantee))
    if privileges:
        connection.execute(sql.SQL("GRANT " + privileges + " ON {} TO {}").format(target, grantee))
