"""The warehouse's side of A5 against the real PostgreSQL, on temporary tables of this connection only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from data_platform_core.accounting import marts
from data_platform_core.accounting.covered import DailyMart, covered_marts
from data_platform_core.accounting.marts import daily_sums, table_sums
from data_platform_core.accounting.sums import ANY, Group, Measure, Total, a5_sums
from data_platform_core.errors import AccountingError, ServiceError
from data_platform_core.settings import Settings
from data_platform_core.warehouse.connections import connect
from data_platform_core.warehouse.schema import migrate

pytestmark = pytest.mark.integration

DAY = "2026-11-21"
(SALES,) = (mart for mart in covered_marts() if isinstance(mart, DailyMart) and mart.name == "mart_daily_sales")
ORDERS = Measure("order_status", "amount_krw")
BIG = 9_007_199_254_740_993  # the first whole number that a double can't hold


@pytest.fixture
def connection(settings: Callable[[str], Settings]) -> Iterator[psycopg.Connection]:
    """A session with a landing table of four order changes, one of them of another run, one of no run."""
    with connect(settings("admin").postgres, "test-marts", autocommit=True) as connection:
        connection.execute(
            "CREATE TEMP TABLE orders (run_id text, event_date date, order_status text, amount_krw bigint)"
        )
        connection.cursor().executemany(
            "INSERT INTO pg_temp.orders VALUES (%s, %s, %s, %s)",
            [("r", DAY, "paid", BIG), ("r", DAY, "paid", 5), ("other", DAY, "placed", 7), (None, DAY, "paid", 1)],
        )
        yield connection


def test_a_table_is_summed_for_the_run_and_for_everything(connection: psycopg.Connection) -> None:
    found = table_sums(connection, "pg_temp.orders", ORDERS, "r")
    assert found.run == {Group(DAY, "paid"): Total(2, BIG + 5)}
    assert found.every == {Group(DAY, "paid"): Total(3, BIG + 6), Group(DAY, "placed"): Total(1, 7)}


def test_a_table_without_days_is_summed_as_one(connection: psycopg.Connection) -> None:
    found = table_sums(connection, "pg_temp.orders", ORDERS, "r", by_day=False)
    assert found.run == {Group("-", "paid"): Total(2, BIG + 5)}


def test_an_entity_that_nothing_is_known_of_is_counted(connection: psycopg.Connection) -> None:
    assert table_sums(connection, "pg_temp.orders", Measure(), "r").every == {Group(DAY, ANY): Total(4)}


def test_one_krw_less_in_the_table_is_found(connection: psycopg.Connection) -> None:
    silver = table_sums(connection, "pg_temp.orders", ORDERS, "r").run
    connection.execute("UPDATE pg_temp.orders SET amount_krw = amount_krw - 1 WHERE amount_krw = 5")
    (found,) = a5_sums(silver, "orders", table_sums(connection, "pg_temp.orders", ORDERS, "r").run)
    assert found.examples == (f"{DAY} paid: 2 rows {BIG + 4:,} KRW, silver 2 rows {BIG + 5:,} KRW",)


def test_a_daily_mart_gives_back_its_kinds(connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marts, "MARTS_SCHEMA", "pg_temp")
    columns = [name for of in SALES.kinds.values() for name in (of.count, of.amount)]
    connection.execute(
        f"CREATE TEMP TABLE mart_daily_sales (business_date date, {', '.join(f'{name} bigint' for name in columns)})"
    )
    connection.execute(
        "INSERT INTO pg_temp.mart_daily_sales (business_date, paid_orders, paid_krw, placed_orders, placed_krw) "
        "VALUES (%s, 2, %s, 0, 0)",
        (DAY, BIG),
    )
    assert daily_sums(connection, SALES) == {Group(DAY, "paid"): Total(2, BIG)}


def test_a_missing_table_is_reported_with_the_command_that_creates_it(connection: psycopg.Connection) -> None:
    with pytest.raises(AccountingError, match=r"raw_crm\.invoices does not exist; `crm warehouse migrate`"):
        table_sums(connection, "raw_crm.invoices", Measure(), "r")
    with pytest.raises(AccountingError, match=r"marts\.invoices does not exist; `crm dbt build`"):
        table_sums(connection, marts.mart("invoices"), Measure(), "r")


def test_a_missing_column_is_reported(connection: psycopg.Connection) -> None:
    with pytest.raises(AccountingError, match=r"pg_temp\.orders: column .*grade.* does not exist"):
        table_sums(connection, "pg_temp.orders", Measure("grade"), "r")


def test_a_role_that_may_not_read_a_table_is_reported(settings: Callable[[str], Settings]) -> None:
    migrate(settings("admin"))
    with (
        connect(settings("reader").postgres, "test-marts", autocommit=True) as reader,
        pytest.raises(ServiceError, match=r"may not read raw_crm\.orders; check CRM_POSTGRES__USER"),
    ):
        table_sums(reader, "raw_crm.orders", ORDERS, "r")
