"""What the warehouse's integration tests share: a database of their own, trial entities, and rows for silver.

Run as a program it is a load in a process of its own, to be killed: `warehouse_trial.py <environment> <entity>`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from data_platform_core.access import postgres
from data_platform_core.access.matrix import load_matrix
from data_platform_core.access.names import STACK, role
from data_platform_core.contracts import Contract, load_contract
from data_platform_core.settings import Settings, load_settings
from data_platform_core.topology import Topology
from data_platform_core.warehouse.columns import silver_columns
from data_platform_core.warehouse.connections import connect

SettingsOf = Callable[[str], Settings]
#: Puts rows into the landing table of an entity.
Land = Callable[[str, list[dict[str, Any]]], None]

#: Beside the platform's own database on the same server, so that no other test counts our rows.
DATABASE = "crm_trial"
START = datetime(2026, 3, 1, tzinfo=UTC)
PRODUCT, PROFILE = 1, 9_000_001


def in_trial_database(settings: Settings, **postgres: Any) -> Settings:
    changed = settings.postgres.model_copy(update={"database": DATABASE, **postgres})
    return settings.model_copy(update={"postgres": changed})


@pytest.fixture(scope="session")
def trial_settings(stack: Topology, settings: SettingsOf) -> Iterator[SettingsOf]:
    """Settings of a service, in a migrated database of the tests' own."""
    with migrated_database(stack, settings, DATABASE) as found:
        yield found


@contextmanager
def migrated_database(stack: Topology, settings: SettingsOf, name: str) -> Iterator[SettingsOf]:
    """A new database on the stack's server, with every role and migration; dropped at the end."""
    from data_platform_core.warehouse.schema import migrate
    from embedded_stack.credentials import read_account

    user, password = read_account(stack.secrets_path, STACK).postgres_login
    server = {"host": stack.postgres.host, "port": stack.postgres.port, "user": user, "password": password}
    database = sql.Identifier(name)
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database)

    def execute(*statements: sql.Composed) -> None:
        # A connection of its own each time: other tests kill the server between set-up and teardown.
        with psycopg.connect(**server, dbname="postgres", autocommit=True) as connection:  # type: ignore[arg-type]
            for statement in statements:
                connection.execute(statement)

    matrix = load_matrix()
    owner, roles = sql.Identifier(role(postgres.owner(matrix))), map(sql.Identifier, postgres.roles(matrix))
    execute(
        drop,
        sql.SQL("CREATE DATABASE {} OWNER {}").format(database, owner),
        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database),
        *(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, name) for name in roles),
    )
    migrate(in_trial_database(settings("admin"), database=name))
    yield lambda service: in_trial_database(settings(service), database=name)
    execute(drop)


def trial_contract(like: str, entity: str) -> Contract:
    """The contract of `like` under another entity's name: tables of its own everywhere."""
    return Contract.model_validate(load_contract(like).model_dump() | {"entity": entity})


def order(number: int, **changes: Any) -> dict[str, Any]:
    """A row of silver's orders; `number` makes it unique."""
    moment = START + timedelta(milliseconds=number)
    row = {
        "event_id": f"{number:036d}",
        "event_ts": moment,
        "produced_ts": moment,
        "source": "test",
        "run_id": "trial",
        "producer_id": 0,
        "seq": number,
        "order_id": f"o-{number // 2}",
        "order_status": "placed" if number % 2 == 0 else "paid",
        "profile_id": 9_000_000 + number % 7,
        "lines": [(1, 2, 500 + number)],
        "amount_krw": 2 * (500 + number),
        "payment_method": "kakao_pay",
        "card_fingerprint": None,
        "ip": "192.0.2.1",
        "kafka_partition": number % 3,
        "kafka_offset": number,
        "kafka_ts": moment,
        "is_late": False,
        "event_date": moment.date(),
    }
    return row | changes


def event(number: int, event_type: str, moment: datetime, **changes: Any) -> dict[str, Any]:
    same = order(number, event_ts=moment, event_date=moment.date())
    row = {
        "event_type": event_type,
        "session_id": "s-1",
        "profile_id": PROFILE,
        "product_id": PRODUCT,
        "order_id": None,
        "device": "mobile",
        "os": "android",
        "channel": "email",
        "site_category": None,
        "app_category": "food",
        "banner_position": 0,
        "search_query": None,
        "rating": None,
    }
    return same | row | changes


def product(number: int, price: int, moment: datetime) -> dict[str, Any]:
    row = {
        "product_id": PRODUCT,
        "name": "tea",
        "category": "food",
        "price_krw": price,
        "stock": 1,
        "status": "active",
    }
    return order(number, event_ts=moment, event_date=moment.date()) | row


def profile(number: int, grade: str, moment: datetime) -> dict[str, Any]:
    row = {
        "profile_id": PROFILE,
        "email": "user1@test.com",
        "grade": grade,
        "segment": "loyal",
        "signup_channel": "email",
        "signup_date": date(2025, 1, 1),
        "marketing_consent": True,
    }
    return order(number, event_ts=moment, event_date=moment.date()) | row


@pytest.fixture(scope="session")
def land(trial_settings: SettingsOf, contracts: dict[str, Contract]) -> Land:
    """Put rows into a landing table as one load of the batch role."""

    def load(entity: str, rows: list[dict[str, Any]]) -> None:
        names = [column.name for column in silver_columns(contracts[entity])]
        statement = sql.SQL("INSERT INTO {} ({}, load_id, loaded_at) VALUES ({}, %s, now())").format(
            sql.Identifier("raw_crm", entity),
            sql.SQL(", ").join([sql.Identifier(name) for name in names]),
            sql.SQL(", ").join([sql.Placeholder()] * len(names)),
        )
        with connect(trial_settings("batch").postgres, "test") as connection:
            drawn = connection.execute("SELECT nextval('platform.loads_load_id_seq')").fetchone()
            assert drawn is not None
            for row in rows:
                values = [_stored(row[name]) for name in names]
                connection.execute(statement, [*values, drawn[0]])

    return load


def _stored(value: Any) -> Any:
    keys = ("product_id", "quantity", "unit_price_krw")
    return Jsonb([dict(zip(keys, line, strict=True)) for line in value]) if isinstance(value, list) else value


def append(spark: Any, settings: Settings, contract: Contract, rows: Iterable[dict[str, Any]]) -> None:
    """One commit of `rows` to the entity's silver table; the first one makes the table."""
    from data_platform_core.lake.tables import silver_schema
    from data_platform_core.wire.columns import SILVER_PARTITION, silver_columns

    names = silver_columns(contract)
    values = [tuple(row[name] for name in names) for row in rows]
    frame = spark.createDataFrame(values, silver_schema(spark, contract))
    uri = settings.object_store.lake_uri(contract.names.silver)
    frame.coalesce(2).write.format("delta").mode("append").partitionBy(SILVER_PARTITION).save(uri)


def main(environment: str, entity: str) -> None:
    """Load a trial entity like orders, as the batch service."""
    from data_platform_core.batch.load_warehouse import load_all
    from data_platform_core.lake.session import spark_session

    settings = in_trial_database(load_settings("batch", environment))
    load_all(spark_session(settings, "load to be killed"), settings, [trial_contract("orders", entity)])


if __name__ == "__main__":
    main(*sys.argv[1:])
