"""The warehouse's side of A5: sums of landing tables and marts, which `covered` lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import yaml
from psycopg import sql

from data_platform_core.accounting.covered import DailyMart
from data_platform_core.accounting.sums import ANY, NO_DAY, Group, Measure, Sums, Total
from data_platform_core.errors import AccountingError, ServiceError
from data_platform_core.naming import MARTS_SCHEMA
from data_platform_core.paths import DBT_DIR

_DBT_PROJECT: Final = DBT_DIR / "dbt_project.yml"
_DEFAULT_TIMEZONE: Final = "UTC"


@dataclass(frozen=True)
class Scoped:
    """Sums of a table: of all it holds, and of the run alone."""

    every: Sums
    run: Sums


def project_variables() -> Mapping[str, Any]:
    """The variables of dbt's project, by name."""
    project = yaml.safe_load(_DBT_PROJECT.read_text(encoding="utf-8")) if _DBT_PROJECT.is_file() else {}
    return project.get("vars") or {}


def business_timezone() -> str:
    """The time zone of the marts' business days: dbt's variable."""
    return str(project_variables().get("business_timezone", _DEFAULT_TIMEZONE))


def mart(name: str) -> str:
    """A mart with its schema."""
    return f"{MARTS_SCHEMA}.{name}"


def table_sums(
    connection: psycopg.Connection, table: str, measure: Measure, run_id: str, by_day: bool = True
) -> Scoped:
    """Totals of a table that has a row per thing, per day (unless it has none) and kind.

    Raises AccountingError when there is no such table, ServiceError when we may not read it.
    """
    query = sql.SQL(
        "SELECT coalesce(run_id = {run}, false), {day}, {kind}, count(*), coalesce(sum({amount}), 0) "
        "FROM {table} GROUP BY 1, 2, 3"
    ).format(
        run=sql.Literal(run_id),
        day=sql.SQL("event_date::text") if by_day else sql.Literal(NO_DAY),
        kind=sql.Identifier(measure.kind) if measure.kind else sql.Literal(ANY),
        amount=sql.Identifier(measure.amount) if measure.amount else sql.Literal(0),
        table=sql.Identifier(*table.split(".")),
    )
    every: dict[Group, Total] = {}
    run: dict[Group, Total] = {}
    for in_run, day, kind, rows, krw in _rows(connection, table, query):
        group, total = Group(day, str(kind)), Total(rows, int(krw))
        so_far = every.get(group, Total(0))
        every[group] = Total(so_far.rows + total.rows, so_far.krw + total.krw)
        if in_run:
            run[group] = total
    return Scoped(every, run)


def daily_sums(connection: psycopg.Connection, daily: DailyMart) -> Sums:
    """Totals of a daily mart, per business day and kind. Raises as `table_sums`."""
    values = sql.SQL(", ").join(
        sql.SQL("({}, {}, {})").format(
            sql.Literal(kind), sql.Identifier(of.count), sql.Identifier(of.amount) if of.amount else sql.Literal(0)
        )
        for kind, of in daily.kinds.items()
    )
    table = mart(daily.name)
    query = sql.SQL(
        "SELECT business_date::text, v.kind, sum(v.rows), sum(v.krw) FROM {table} "
        "CROSS JOIN LATERAL (VALUES {values}) AS v (kind, rows, krw) GROUP BY 1, 2"
    ).format(table=sql.Identifier(*table.split(".")), values=values)
    return {
        Group(day, kind): Total(int(rows), int(krw))
        for day, kind, rows, krw in _rows(connection, table, query)
        if rows or krw
    }


def _rows(connection: psycopg.Connection, table: str, query: sql.Composed) -> list[tuple[Any, ...]]:
    with warehouse_errors(connection, table):
        return connection.execute(query).fetchall()


@contextmanager
def warehouse_errors(connection: psycopg.Connection, table: str) -> Iterator[None]:
    """What PostgreSQL refuses, as one line: AccountingError for a table that is not there, ServiceError for access."""
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        command = "crm dbt build" if table.startswith(MARTS_SCHEMA) else "crm warehouse migrate"
        raise AccountingError(f"table {table} does not exist; `{command}` makes it") from None
    except psycopg.errors.UndefinedColumn as error:
        raise AccountingError(f"table {table}: {error.diag.message_primary}; build it anew") from None
    except psycopg.errors.InsufficientPrivilege:
        raise ServiceError(
            f"PostgreSQL user {connection.info.user!r} may not read {table}; check CRM_POSTGRES__USER, or run "
            f"`crm warehouse migrate` and build the marts again"
        ) from None
