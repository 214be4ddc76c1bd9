"""What of the warehouse A5 compares with silver: landing tables, and each mart by the columns it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import yaml
from psycopg import sql

from data_platform_core.accounting.sums import ANY, NO_DAY, Group, Measure, Sums, Total
from data_platform_core.errors import AccountingError, ServiceError
from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.warehouse.roles import MARTS_SCHEMA

_DBT_PROJECT: Final = REPOSITORY_ROOT / "dbt" / "dbt_project.yml"
_DEFAULT_TIMEZONE: Final = "UTC"

#: What is counted of an entity. One that is not here is counted per day only.
MEASURES: Final[Mapping[str, Measure]] = {
    "events": Measure(kind="event_type"),
    "orders": Measure(key="order_id", kind="order_status", amount="amount_krw"),
    "products": Measure(key="product_id", kind="category", amount="price_krw"),
    "profiles": Measure(key="profile_id", kind="grade"),
}
#: Marts with a row per row of silver: they can be compared for one run. The first is the table's column "marts".
FACTS: Final[Mapping[str, tuple[str, ...]]] = {"events": ("fct_events",), "orders": ("fct_order_changes",)}
#: Marts with a row per key: its newest version.
LATEST: Final[Mapping[str, tuple[str, ...]]] = {
    "orders": ("fct_orders",),
    "products": ("dim_products",),
    "profiles": ("dim_profiles",),
}


@dataclass(frozen=True)
class DailyMart:
    """A mart with rows per business day. `kinds`: a kind of silver to the columns with its count and its amount."""

    entity: str
    name: str
    kinds: Mapping[str, tuple[str, str | None]]


#: Entities of which a state counts once a day, however often it was sent (ADR 0009).
REPLACED: Final = ("orders",)

_CTR: Final = {"impression": ("impressions", None), "click": ("clicks", None)}
_FUNNEL: Final = {
    ANY: ("events", None),
    "page_view": ("page_views", None),
    "search": ("searches", None),
    "add_to_cart": ("add_to_carts", None),
    "checkout": ("checkouts", None),
    "purchase": ("purchases", None),
    **_CTR,
}
DAILY: Final = (
    DailyMart("events", "mart_daily_ctr", {ANY: ("events", None), **_CTR}),
    DailyMart("events", "mart_hourly_ctr", {ANY: ("events", None), **_CTR}),
    DailyMart("events", "mart_device_performance", _FUNNEL),
    DailyMart("events", "mart_category_analysis", _FUNNEL),
    DailyMart("events", "mart_banner_position", _CTR),
    DailyMart(
        "orders",
        "mart_daily_sales",
        {kind: (f"{kind}_orders", f"{kind}_krw") for kind in ("placed", "paid", "cancelled", "refunded")},
    ),
)


@dataclass(frozen=True)
class Scoped:
    """Sums of a table: of all it holds, and of the run alone."""

    every: Sums
    run: Sums


def business_timezone() -> str:
    """The time zone of the marts' business days: dbt's variable."""
    project = yaml.safe_load(_DBT_PROJECT.read_text(encoding="utf-8")) if _DBT_PROJECT.is_file() else {}
    return str((project.get("vars") or {}).get("business_timezone", _DEFAULT_TIMEZONE))


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
            sql.Literal(kind), sql.Identifier(count), sql.Identifier(amount) if amount else sql.Literal(0)
        )
        for kind, (count, amount) in daily.kinds.items()
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
