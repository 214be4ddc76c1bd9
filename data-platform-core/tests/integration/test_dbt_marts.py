"""dbt on a real warehouse: late rows count, readers get no personal data, a failing test fails the build."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from warehouse_trial import PROFILE, Land, SettingsOf, event, land, order, product, profile, trial_settings

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.warehouse.connections import connect
from data_platform_core.warehouse.dbt_runner import dbt_build, dbt_docs

pytestmark = pytest.mark.integration

__all__ = ["land", "trial_settings"]


def ask(settings_of: SettingsOf, statement: str) -> list[tuple[Any, ...]]:
    """Queried as the reader, the role for people."""
    with connect(settings_of("reader").postgres, "test") as connection:
        return connection.execute(statement.encode()).fetchall()


def at(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=UTC)


@pytest.fixture(scope="module")
def built(trial_settings: SettingsOf, land: Land) -> SettingsOf:
    """Marts of some rows of each entity; the tests continue from there, in file order."""
    land("products", [product(1, 900, at(2))])
    land("profiles", [profile(1, "gold", at(2))])
    land("events", [event(1, "impression", at(3)), event(2, "impression", at(3)), event(3, "click", at(3))])
    land("orders", [order(10, order_id="o-a", order_status="placed", profile_id=PROFILE)])
    dbt_build(trial_settings("dbt"), ["--quiet"])
    return trial_settings


def test_marts_follow_loads_and_not_event_time(built: SettingsOf, land: Land) -> None:
    daily = "SELECT business_date, events, late_events, ctr FROM marts.mart_daily_ctr ORDER BY 1"
    assert [tuple(map(str, row)) for row in ask(built, daily)] == [("2026-03-03", "3", "0", "0.500000")]

    # Older than all existing rows, and loaded last: a late event, an old version, a payment before a known refund.
    land("events", [event(4, "click", at(1), is_late=True), event(5, "click", at(3), is_late=True)])
    land("products", [product(2, 700, at(1))])
    land("orders", [order(12, order_id="o-a", order_status="refunded", amount_krw=1_020, event_ts=at(5))])
    dbt_build(built("dbt"), ["--quiet"])
    land("orders", [order(11, order_id="o-a", order_status="paid", amount_krw=1_020, event_ts=at(4))])
    dbt_build(built("dbt"), ["--quiet"])

    assert [tuple(map(str, row)) for row in ask(built, daily)] == [
        ("2026-03-01", "1", "1", "None"),
        ("2026-03-03", "4", "1", "1.000000"),
    ]
    assert ask(built, "SELECT price_krw, version_count FROM marts.dim_products") == [(900, 2)]
    newest = "SELECT order_status, was_paid, change_count FROM marts.fct_orders WHERE order_id = 'o-a'"
    assert ask(built, newest) == [("refunded", True, 3)]
    sales = "SELECT business_date::text, paid_krw, refunded_krw, net_sales_krw FROM marts.mart_daily_sales ORDER BY 1"
    assert ask(built, sales) == [
        ("2026-03-01", 0, 0, 0),
        ("2026-03-04", 1_020, 0, 1_020),
        ("2026-03-05", 0, 1_020, -1_020),
    ]


def test_people_see_marts_without_personal_data_and_nothing_below(
    built: SettingsOf, contracts: dict[str, Contract]
) -> None:
    seen = ask(built, "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'marts'")
    personal = {field for contract in contracts.values() for field in contract.pii}
    assert personal
    assert len({table for table, _ in seen}) >= 11
    assert not [column for _, column in seen if column in personal]
    for forbidden in ("staging.stg_crm__profiles", "raw_crm.profiles"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(built, f"SELECT * FROM {forbidden}")
    with connect(built("accounting").postgres, "test") as connection:
        for allowed in ("raw_crm.profiles", "marts.fct_events"):
            connection.execute(f"SELECT count(*) FROM {allowed}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT count(*) FROM staging.stg_crm__profiles")


def test_a_row_lost_between_landing_and_fact_fails_the_build_by_name(built: SettingsOf) -> None:
    with connect(built("dbt").postgres, "test") as connection:
        lost = connection.execute("DELETE FROM marts.fct_events WHERE event_id = %s", (order(2)["event_id"],))
        assert lost.rowcount == 1
    with pytest.raises(ServiceError, match=r"dbt build failed: .*facts_are_complete"):
        dbt_build(built("dbt"), ["--quiet"])
    dbt_build(built("dbt"), ["--quiet", "--full-refresh"])


def test_docs_are_one_page_that_names_the_marts(trial_settings: SettingsOf) -> None:
    page = dbt_docs(trial_settings("dbt"), ["--quiet"])
    assert "mart_daily_sales" in page.read_text(encoding="utf-8")
