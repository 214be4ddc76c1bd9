"""Marts that were built load by load are those of one full refresh and of A8, whatever arrives late."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
import yaml
from psycopg import sql
from warehouse_trial import Land, SettingsOf, event, land, order, product, profile, trial_settings

from data_platform_core.accounting.content.copies import copying
from data_platform_core.accounting.content.engine import comparing
from data_platform_core.accounting.content.types import contract_types
from data_platform_core.accounting.content.warehouse import check_warehouse
from data_platform_core.contracts import Contract, load_contracts
from data_platform_core.errors import ServiceError
from data_platform_core.naming import MARTS_SCHEMA, STAGING_SCHEMA
from data_platform_core.paths import DBT_DIR
from data_platform_core.warehouse.columns import silver_columns
from data_platform_core.warehouse.connections import connect
from data_platform_core.warehouse.dbt_runner import dbt_build, dbt_freshness, run_dbt

pytestmark = pytest.mark.integration

__all__ = ["land", "trial_settings"]

#: Of this module's rows: the trial database has others' too.
FIRST, RUN = 500_000, "refresh"
EACH = ("events", "orders", "products", "profiles")
#: The loads between two builds, and the rows of each. A small one leaves most days without news of their own.
STEPS = (
    (EACH, 150), (("events",), 4), (("orders",), 3), (("products", "profiles"), 3), (EACH, 60),
    (("orders", "events"), 3), (("events",), 4),
)  # fmt: skip
#: Half are purchases, of few orders: these move between days.
KINDS = ("page_view", "impression", "click", "add_to_cart", "checkout", "review", *["purchase"] * 6)

Rows = dict[str, list[dict[str, Any]]]


def rows_of_a_load(rng: Random, numbers: range) -> Rows:
    """Records of a load of each entity, of any day of twenty: most are older than what is there."""
    made: Rows = {"events": [], "orders": [], "products": [], "profiles": []}
    for number in numbers:
        # A tenth is of one moment: ties go by production, offset and partition.
        moment = datetime(2026, 4, 1, tzinfo=UTC) + timedelta(seconds=rng.choice([0, *[rng.randrange(1_728_000)] * 9]))
        produced = moment + timedelta(seconds=rng.randrange(2))
        same = {"run_id": RUN, "produced_ts": produced, "is_late": rng.random() < 0.3}
        kind = rng.choice(KINDS)
        seen = rng.choice([None, 1]) if kind == "page_view" else 1
        named = f"r-{rng.randrange(60)}" if kind == "purchase" and rng.random() < 0.8 else None
        made["events"].append(
            event(number, kind, moment, order_id=named, session_id=f"r-{rng.randrange(30)}", banner_position=None,
                  profile_id=9_100_000 + rng.randrange(9), product_id=seen,
                  channel=rng.choice(["email", "push", "direct"]), device=rng.choice(["mobile", "tablet"]),
                  rating=3 if kind == "review" else None, **same)
        )  # fmt: skip
        amount = rng.choice([10_000, 60_000, 700_000])
        made["orders"].append(
            order(number, order_id=f"r-{rng.randrange(60)}", event_ts=moment, event_date=moment.date(),
                  order_status=rng.choice(["placed", "paid", "paid", "paid", "cancelled", "refunded"]),
                  profile_id=9_100_000 + rng.randrange(9), lines=[(1, 1, amount)], amount_krw=amount, **same)
        )  # fmt: skip
        made["products"].append(
            product(number, rng.randrange(1_000), moment) | {"product_id": 9_100 + rng.randrange(8)} | same
        )
        made["profiles"].append(
            profile(number, rng.choice(["gold", "vip"]), moment) | {"profile_id": 9_100_000 + rng.randrange(9)} | same
        )
    return made


@pytest.fixture(scope="module")
def landed(trial_settings: SettingsOf, land: Land) -> Rows:
    """What was landed by STEPS, with a run of the models after each."""
    rng, first = Random(20_260_401), FIRST
    landed: Rows = {entity: [] for entity in EACH}
    for entities, count in STEPS:
        made = rows_of_a_load(rng, range(first, first + count))
        first += count
        for entity in entities:
            land(entity, made[entity])
            landed[entity] += made[entity]
        run_dbt(trial_settings("dbt"), ("run",), ["--quiet"])
    return landed


def checksums(settings_of: SettingsOf) -> dict[str, tuple[int, str]]:
    """Rows and a digest of their values, whatever their order, of every table that dbt made."""
    found = {}
    query = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN (%s, %s)"
    with connect(settings_of("dbt").postgres, "test") as connection:
        for schema, table in connection.execute(query, (STAGING_SCHEMA, MARTS_SCHEMA)).fetchall():
            # numeric's scale is not a value; its text would show it.
            columns = connection.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s "
                "ORDER BY column_name",
                (schema, table),
            ).fetchall()
            selected = sql.SQL(", ").join(sql.Identifier(name) for (name,) in columns)
            statement = sql.SQL("SELECT {} FROM {}").format(selected, sql.Identifier(schema, table))
            rows = sorted(repr(row) for row in connection.execute(statement).fetchall())
            found[table] = (len(rows), hashlib.sha256("\n".join(rows).encode()).hexdigest())
    return found


def test_marts_built_load_by_load_are_those_of_a_full_refresh(trial_settings: SettingsOf, landed: Rows) -> None:
    step_by_step = checksums(trial_settings)
    new = {"int_visit_days", "int_purchases", "mart_sales_funnel", "mart_campaign_performance",
           "mart_customer_segments", "dim_product_versions", "dim_profile_versions"}  # fmt: skip
    assert {table for table in new if step_by_step[table][0] > 5} == new
    dbt_build(trial_settings("dbt"), ["--quiet", "--full-refresh"])
    assert checksums(trial_settings) == step_by_step


def test_marts_are_what_accounting_recomputes(trial_settings: SettingsOf, landed: Rows, tmp_path: Path) -> None:
    dbt_build(trial_settings("dbt"), ["--quiet"])
    for entity, contract in load_contracts().items():
        (tmp_path / entity).mkdir()
        with (
            connect(trial_settings("accounting").postgres, "test") as connection,
            comparing() as engine,
            copying(tmp_path / entity, connection, contract, RUN) as copies,
        ):
            engine.load("silver", as_silver(contract, landed[entity]).to_reader())
            assert [str(violation) for violation in check_warehouse(engine, copies)] == []


def as_silver(contract: Contract, rows: list[dict[str, Any]]) -> pa.Table:
    line = ("product_id", "quantity", "unit_price_krw")
    lines = [[dict(zip(line, one, strict=True)) for one in row["lines"]] for row in rows]
    made = [row | {"lines": of_row} for row, of_row in zip(rows, lines, strict=True)]
    types = contract_types(contract)
    columns = (column.name for column in silver_columns(contract))
    return pa.table({name: pa.array([row[name] for row in made], types.get(name)) for name in columns})


def test_every_column_of_every_table_is_described(trial_settings: SettingsOf, landed: Rows) -> None:
    described = {
        model["name"]: {column["name"] for column in model["columns"]}
        for file in DBT_DIR.glob("models/*/*.yml")
        for model in yaml.safe_load(file.read_text(encoding="utf-8")).get("models", [])
        if not model["name"].startswith("stg_")
    }
    query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema IN (%s, %s)"
    found: dict[str, set[str]] = {}
    with connect(trial_settings("dbt").postgres, "test") as connection:
        for table, column in connection.execute(query, (STAGING_SCHEMA, MARTS_SCHEMA)).fetchall():
            if table in described:
                found.setdefault(table, set()).add(column)
    assert found == described


def test_one_version_of_a_product_holds_at_each_moment(trial_settings: SettingsOf, landed: Rows) -> None:
    query = """
        SELECT count(*) FROM marts.dim_product_versions AS one JOIN marts.dim_product_versions AS other
            ON one.product_id = other.product_id AND one.event_id <> other.event_id
            AND tstzrange(one.valid_from, one.valid_to) && tstzrange(other.valid_from, other.valid_to)
    """
    with connect(trial_settings("reader").postgres, "test") as connection:
        assert connection.execute(query.encode()).fetchall() == [(0,)]


def test_an_entity_whose_last_load_is_too_old_is_named(
    trial_settings: SettingsOf, contracts: dict[str, Contract]
) -> None:
    insert = (
        "INSERT INTO platform.loads (entity, load_run, mode, delta_table_id, from_version, delta_version, rows, "
        "rows_known, started_at, loaded_at) SELECT %s, 'fresh', 'rebuild', 't', -1, 0, 1, 0, moment, moment "
        "FROM (VALUES (now() - make_interval(mins => %s))) AS v (moment)"
    )
    with connect(trial_settings("batch").postgres, "test") as connection:
        for entity, contract in contracts.items():
            connection.execute(
                insert, (entity, 0 if entity != "orders" else contract.freshness.error_after_minutes + 1)
            )
    with pytest.raises(ServiceError, match="dbt source freshness failed: orders; its log is"):
        dbt_freshness(trial_settings("dbt"), ["--quiet"])
    with connect(trial_settings("batch").postgres, "test") as connection:
        connection.execute(insert, ("orders", 0))
    dbt_freshness(trial_settings("dbt"), ["--quiet"])
