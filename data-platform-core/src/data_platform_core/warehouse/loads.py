"""PostgreSQL's side of a load: lock, loading table, COPY, and the one transaction that makes rows visible.

A load copies rows into its own UNLOGGED table, in parallel. One transaction then moves them and inserts the load's row
into `platform.loads`. Before that commit nothing has changed; after it the load is complete.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import psycopg
from psycopg import sql

from data_platform_core.contracts import IDEMPOTENCY_KEY, Contract
from data_platform_core.errors import ServiceError
from data_platform_core.naming import LANDING_SCHEMA, LOADING_SCHEMA, LOADS_TABLE
from data_platform_core.settings import PostgresSettings
from data_platform_core.waiting import ask_until
from data_platform_core.warehouse.columns import silver_columns
from data_platform_core.warehouse.outage import connected

Mode = Literal["snapshot", "incremental", "rebuild"]

#: Column of the loading table: the task attempt that wrote the row.
ATTEMPT_COLUMN: Final = "_attempt"
#: A killed load's backend releases its lock within seconds (`connections.py`), so a rerun waits this long for it.
LOCK_WAIT_S: Final = 10.0
_LOCK_POLL_S = 0.5
#: First key of our advisory locks; the second is the table's hash.
_LOCK_CLASS = 7_302_027


@dataclass(frozen=True)
class LastLoad:
    """The loaded state of an entity: a version of a Delta table."""

    delta_table_id: str
    delta_version: int


@dataclass(frozen=True)
class Step:
    """One load of one entity: Delta versions after `from_version` (-1: none) up to and with `delta_version`."""

    entity: str
    load_run: str
    mode: Mode
    delta_table_id: str
    from_version: int
    delta_version: int
    started_at: datetime


@dataclass(frozen=True)
class LoadResult:
    """A committed step. `rows` are new; `rows_known` were read but had been stored before."""

    step: Step
    load_id: int
    rows: int
    rows_known: int


def lock_entity(connection: psycopg.Connection, entity: str, wait_s: float = LOCK_WAIT_S) -> None:
    """Lock the entity for this connection until it closes. Raises ServiceError if another load has the lock."""
    key = (_LOCK_CLASS, f"{LANDING_SCHEMA}.{entity}")

    def locked() -> bool:
        row = connection.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", key).fetchone()
        return bool(row and row[0])

    if ask_until(bool, locked, within_s=wait_s, every_s=_LOCK_POLL_S):
        return
    holder = connection.execute(
        """
        SELECT a.pid, a.backend_start::timestamp(0) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %s AND l.objid = hashtext(%s)::bit(32)::bigint::oid
        """,
        key,
    ).fetchone()
    who = f" (PostgreSQL backend {holder[0]}, since {holder[1]} UTC)" if holder else ""
    raise ServiceError(f"entity {entity} is being loaded by another load{who}; wait until it has ended, then run again")


def last_load(connection: psycopg.Connection, entity: str) -> LastLoad | None:
    """The newest committed load of an entity. Raises ServiceError when migrations have not run."""
    query = f"SELECT delta_table_id, delta_version FROM {LOADS_TABLE} WHERE entity = %s ORDER BY load_id DESC LIMIT 1"
    try:
        row = connection.execute(query, (entity,)).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise ServiceError(f"PostgreSQL has no table {LOADS_TABLE}; run `crm warehouse migrate`") from None
    except psycopg.errors.InsufficientPrivilege:
        raise ServiceError(
            f"PostgreSQL user {connection.info.user!r} may not read {LOADS_TABLE}; check CRM_POSTGRES__USER "
            "(the batch role loads), or run the migrations again"
        ) from None
    return LastLoad(*row) if row else None


def create_loading_table(connection: psycopg.Connection, contract: Contract) -> sql.Identifier:
    """A fresh UNLOGGED table for one load; a killed load's is dropped. Needs the entity's lock."""
    prefix = re.escape(contract.entity)
    leftovers = connection.execute(
        "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relname ~ %s",
        (LOADING_SCHEMA, f"^{prefix}_[0-9a-f]{{12}}$"),
    ).fetchall()
    for (name,) in leftovers:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(LOADING_SCHEMA, name)))
    # A unique name: an executor that outlives its driver must not write into the next load's table.
    table = sql.Identifier(LOADING_SCHEMA, f"{contract.entity}_{uuid.uuid4().hex[:12]}")
    columns = sql.SQL(", ").join(
        [sql.SQL("{} " + column.sql_type).format(sql.Identifier(column.name)) for column in silver_columns(contract)]
    )
    attempt = sql.Identifier(ATTEMPT_COLUMN)
    connection.execute(sql.SQL("CREATE UNLOGGED TABLE {} ({}, {} bigint NOT NULL)").format(table, columns, attempt))
    return table


def copy_lines(postgres: PostgresSettings, table: sql.Identifier, attempt: int, chunks: Iterable[Sequence[str]]) -> int:
    """COPY rows into a loading table in one transaction, all or none, and return their number.

    `chunks` hold lines in COPY's text format, columns in the order of `silver_columns`, without the line end.
    """
    end = f"\t{attempt}\n"
    rows = 0
    with (
        connected(postgres, f"crm-load-{attempt}") as connection,
        connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy,
    ):
        for lines in chunks:
            if lines:
                copy.write(end.join(lines) + end)
                rows += len(lines)
    return rows


def commit_load(
    connection: psycopg.Connection,
    contract: Contract,
    step: Step,
    table: sql.Identifier,
    attempts: dict[int, int],
) -> LoadResult:
    """Move the rows, record the load and drop the loading table, in one transaction.

    `attempts` has the successful task attempts and their rows; retried tasks leave rows of failed attempts. Runs on the
    connection with the entity's lock, so that losing the lock also fails the transaction.
    """
    expected = sum(attempts.values())
    names = [sql.Identifier(column.name) for column in silver_columns(contract)]
    with connection.transaction():
        load_id = _only(connection, "SELECT nextval(pg_get_serial_sequence(%s, 'load_id'))", (LOADS_TABLE,))
        target = sql.Identifier(LANDING_SCHEMA, contract.entity)
        if step.mode == "rebuild":
            connection.execute(sql.SQL("DELETE FROM {}").format(target))
        counted = sql.SQL("WHERE {} = ANY(%(attempts)s)").format(sql.Identifier(ATTEMPT_COLUMN))
        which = {"attempts": list(attempts), "load_id": load_id}
        staged = connection.execute(sql.SQL("SELECT count(*) FROM {} {}").format(table, counted), which).fetchone()
        if staged is None or staged[0] != expected:
            raise ServiceError(f"load of {step.entity}: {expected} rows were copied, {staged} arrived; run it again")
        inserted = connection.execute(
            sql.SQL(
                "INSERT INTO {target} ({names}, load_id, loaded_at) SELECT {names}, %(load_id)s, now() FROM {table} "
                "{counted} ON CONFLICT ({key}) DO NOTHING"
            ).format(
                target=target,
                names=sql.SQL(", ").join(names),
                table=table,
                counted=counted,
                key=sql.Identifier(IDEMPOTENCY_KEY),
            ),
            which,
        ).rowcount
        _record_load(connection, step, load_id, inserted, expected - inserted)
        connection.execute(sql.SQL("DROP TABLE {}").format(table))
    return LoadResult(step, load_id, inserted, expected - inserted)


def _record_load(connection: psycopg.Connection, step: Step, load_id: int, rows: int, rows_known: int) -> None:
    """Write the load's row into `platform.loads`, inside the caller's transaction."""
    connection.execute(
        f"INSERT INTO {LOADS_TABLE} (load_id, entity, load_run, mode, delta_table_id, from_version, delta_version, "
        "rows, rows_known, started_at, loaded_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now())",
        (
            load_id,
            step.entity,
            step.load_run,
            step.mode,
            step.delta_table_id,
            step.from_version,
            step.delta_version,
            rows,
            rows_known,
            step.started_at,
        ),
    )


def _only(connection: psycopg.Connection, query: str, values: tuple[object, ...]) -> int:
    row = connection.execute(query.encode(), values).fetchone()
    if row is None:
        raise ServiceError(f"PostgreSQL gave no row for: {query}")
    return int(row[0])
