"""Content altered on purpose, in ways that counts and sums per day and kind do not detect: A8 must name each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from deltalake import DeltaTable
from pipeline import Pipeline
from psycopg import sql

from data_platform_core.lake.delta import table_rows
from data_platform_core.lake.store import delta_options
from data_platform_core.naming import names
from data_platform_core.warehouse.connections import connect


class Tables:
    """Alters a run's tables; `restored` undoes every alteration of its block."""

    def __init__(self, pipeline: Pipeline, run_id: str) -> None:
        self._pipeline, self._run_id = pipeline, run_id

    def lake(self, folder: str) -> DeltaTable:
        store = self._pipeline.settings("streaming").object_store
        options = {**delta_options(store), "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}
        return DeltaTable(f"s3://{store.lake_bucket}/{folder}", storage_options=options)

    def rows(self, folder: str, columns: list[str]) -> list[dict[str, object]]:
        """The run's rows in an order that is the same each time."""
        store = self._pipeline.settings("streaming").object_store
        read = table_rows(store, self.lake(folder)).to_table(columns=["run_id", *columns]).to_pylist()
        return sorted((row for row in read if row["run_id"] == self._run_id), key=lambda row: str(row[columns[0]]))

    def silver(self, entity: str, number: int, where: str = "true", **news: str) -> None:
        """Set columns of the run's row `number` (of those for which `where` holds) to SQL expressions."""
        table = self.lake(names(entity).silver)
        columns = [column for column in ("event_id", "order_status", "is_late") if _has(table, column)]
        rows = [row for row in self.rows(names(entity).silver, columns) if _holds(where, row)]
        table.update(predicate=f"event_id = '{rows[number]['event_id']}'", updates=news)

    def bronze(self, entity: str, number: int, **news: str) -> None:
        row = self._silver_places(entity)[number]
        place = f"partition = {row['kafka_partition']} AND offset = {row['kafka_offset']}"
        self.lake(names(entity).bronze).update(predicate=place, updates=news)

    def bytes_of(self, entity: str, number: int) -> bytes:
        row = self._silver_places(entity)[number]
        place = (row["kafka_partition"], row["kafka_offset"])
        found = self.rows(names(entity).bronze, ["partition", "offset", "value"])
        return next(one["value"] for one in found if (one["partition"], one["offset"]) == place)  # type: ignore[return-value]

    def _silver_places(self, entity: str) -> list[dict[str, object]]:
        return self.rows(names(entity).silver, ["event_id", "kafka_partition", "kafka_offset"])

    def landing(self, statement: str) -> None:
        self._execute("admin", statement)

    def marts(self, statement: str) -> None:
        self._execute("dbt", statement)

    def _execute(self, service: str, statement: str) -> None:
        with connect(self._pipeline.settings(service).postgres, "crm-test") as connection:
            changed = connection.execute(statement.replace(":run", f"'{self._run_id}'")).rowcount  # type: ignore[arg-type]
        assert changed > 0, f"nothing to alter: {statement}"

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Versions of the lake's tables and copies of the warehouse's, restored afterwards."""
        folders = [folder for entity in ENTITIES for folder in (names(entity).bronze, names(entity).silver)]
        versions = {folder: self.lake(folder).version() for folder in folders}
        with self._copies("admin", "raw_crm"), self._copies("dbt", "marts"):
            try:
                yield
            finally:
                for folder, version in versions.items():
                    table = self.lake(folder)
                    if table.version() != version:
                        table.restore(version)

    @contextmanager
    def _copies(self, service: str, schema: str) -> Iterator[None]:
        with connect(self._pipeline.settings(service).postgres, "crm-test", autocommit=True) as connection:
            tables = _tables(connection, schema)
            for table in tables:
                connection.execute(
                    sql.SQL("CREATE TEMP TABLE {} AS SELECT * FROM {}").format(
                        sql.Identifier(f"copy_{table}"), sql.Identifier(schema, table)
                    )
                )
            try:
                yield
            finally:
                for table in tables:
                    mine, copy = sql.Identifier(schema, table), sql.Identifier(f"copy_{table}")
                    with connection.transaction():
                        connection.execute(sql.SQL("DELETE FROM {}").format(mine))
                        connection.execute(sql.SQL("INSERT INTO {} SELECT * FROM {}").format(mine, copy))


ENTITIES = ("events", "orders", "products", "profiles")


def _tables(connection: psycopg.Connection, schema: str) -> list[str]:
    query = "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tableowner = current_user"
    return [name for (name,) in connection.execute(query, (schema,)).fetchall()]


def _has(table: DeltaTable, column: str) -> bool:
    return column in {field.name for field in table.schema().fields}


def _holds(where: str, row: dict[str, object]) -> bool:
    """`where` is `column=value`, several of them joined by `&`, or `true`."""
    wanted = (part.split("=") for part in where.split("&") if part != "true")
    return all(str(row[column]) == value for column, value in wanted)


@dataclass(frozen=True)
class Alteration:
    """One alteration, and what A8 reports: how its line begins, and the columns or rows that it names."""

    what: str
    apply: Callable[[Tables], None]
    reported: str

    def __str__(self) -> str:
        return self.what


def _swap_bytes(tables: Tables) -> None:
    first, second = (tables.bytes_of("events", number) for number in (40, 41))
    tables.bronze("events", 40, value=f"X'{second.hex()}'")
    tables.bronze("events", 41, value=f"X'{first.hex()}'")


def _replace_bytes(tables: Tables) -> None:
    value = tables.bytes_of("events", 42)
    tables.bronze("events", 42, value=f"X'{value[:-1].hex()}{value[-1] ^ 1:02x}'")


def _move_won(tables: Tables) -> None:
    """Two orders of one day and kind: the sum is unchanged."""
    tables.silver("orders", 0, "order_status=placed&is_late=False", amount_krw="amount_krw + 1000000")
    tables.silver("orders", 1, "order_status=placed&is_late=False", amount_krw="amount_krw - 1000000")


def _differ(table: str, columns: str, beside: str) -> str:
    return f"rows of {table} that differ in {columns} from {beside}"


def _silver(columns: str) -> str:
    return _differ("silver", columns, "bronze decoded")


def _mart(mart: str, columns: str) -> str:
    return _differ(f"marts.{mart}", columns, "its recomputation")


IN_LAKE = (
    Alteration("1,000,000 KRW moved from an order to another", _move_won, _silver("amount_krw")),
    Alteration(
        "an event id replaced",
        lambda t: t.silver("events", 0, event_id="'5f0e8a52-0000-4a55-8d3c-5a9c2f2b7c11'"),
        _silver("event_id"),
    ),
    Alteration("is_late flipped", lambda t: t.silver("events", 1, is_late="NOT is_late"), _silver("is_late")),
    Alteration(
        "another customer in silver",
        lambda t: t.silver("events", 2, profile_id="coalesce(profile_id, 0) + 1"),
        _silver("profile_id"),
    ),
    Alteration(
        "another session in silver",
        lambda t: t.silver("events", 3, session_id="concat(session_id, 'x')"),
        _silver("session_id"),
    ),
    Alteration(
        "another device in silver",
        lambda t: t.silver("events", 4, device="CASE device WHEN 'tablet' THEN 'mobile' ELSE 'tablet' END"),
        _silver("device"),
    ),
    Alteration(
        "another source in silver", lambda t: t.silver("events", 5, source="concat(source, 'x')"), _silver("source")
    ),
    Alteration(
        "produced_ts a millisecond later",
        lambda t: t.silver("events", 6, produced_ts="produced_ts + INTERVAL '1 millisecond'"),
        _silver("produced_ts"),
    ),
    Alteration(
        "kafka_ts a second earlier in silver",
        lambda t: t.silver("events", 7, kafka_ts="kafka_ts - INTERVAL '1 second'"),
        _silver("kafka_ts"),
    ),
    Alteration("a product's stock", lambda t: t.silver("products", 0, stock="stock + 1"), _silver("stock")),
    Alteration("a customer's e-mail", lambda t: t.silver("profiles", 0, email="concat('x', email)"), _silver("email")),
    Alteration("one bit of bronze's bytes", _replace_bytes, _differ("bronze", "bytes", "the ledger")),
    Alteration("the bytes of two records swapped", _swap_bytes, _differ("bronze", "bytes", "the ledger")),
    Alteration(
        "a record's key in bronze",
        lambda t: t.bronze("orders", 3, key="X'6f2d30'"),
        _differ("bronze", "bytes", "the ledger"),
    ),
    Alteration(
        "a record's topic in bronze",
        lambda t: t.bronze("profiles", 3, topic="'crm.other.v1'"),
        "rows of bronze whose topic or ingest_date is not their own",
    ),
)

_AN_EVENT = "(SELECT event_id FROM raw_crm.events WHERE run_id = :run ORDER BY event_id OFFSET {} LIMIT 1)"
_AN_ORDER = "(SELECT event_id FROM raw_crm.orders WHERE run_id = :run ORDER BY event_id OFFSET {} LIMIT 1)"
_LANDED = "rows of raw_crm.{} that differ in {} from silver"


def _landing(entity: str, what: str, row: str, setting: str, column: str) -> Alteration:
    statement = f"UPDATE raw_crm.{entity} SET {setting} WHERE event_id = {row}"
    return Alteration(what, lambda t: t.landing(statement), _LANDED.format(entity, column))


_OF_RUN = "run_id = :run"
_EVENT_DAYS = "business_date IN (SELECT business_date FROM marts.fct_events WHERE run_id = :run)"
_ORDER_DAYS = "business_date IN (SELECT business_date FROM marts.fct_order_changes WHERE run_id = :run)"


def _of_mart(mart: str, what: str, setting: str, columns: str, row: str) -> Alteration:
    """One row of the mart, the first by its ctid of those for which `row` holds."""
    statement = f"UPDATE marts.{mart} SET {setting} WHERE ctid = (SELECT min(ctid) FROM marts.{mart} AS m WHERE {row})"
    return Alteration(what, lambda t: t.marts(statement), _mart(mart, columns))


IN_LANDING = (
    _landing(
        "events", "another customer in a landing row", _AN_EVENT.format(0), "profile_id = coalesce(profile_id, 0) + 1",
        "profile_id",
    ),
    _landing(
        "events", "another device in a landing row", _AN_EVENT.format(1),
        "device = CASE device WHEN 'tablet' THEN 'mobile' ELSE 'tablet' END", "device",
    ),
    _landing("events", "is_late flipped in a landing row", _AN_EVENT.format(2), "is_late = NOT is_late", "is_late"),
    _landing(
        "orders", "a line's quantity in a landing row", _AN_ORDER.format(0),
        "lines = jsonb_set(lines, '{0,quantity}', '77')", "lines",
    ),
    _landing("orders", "an order's address in a landing row", _AN_ORDER.format(1), "ip = '10.9.9.9'", "ip"),
    Alteration(
        "a landing row under another position",
        lambda t: t.landing(
            f"UPDATE raw_crm.events SET kafka_offset = kafka_offset + 1000000 WHERE event_id = {_AN_EVENT.format(3)}"
        ),
        "rows of raw_crm.events that are not in silver",
    ),
)  # fmt: skip

#: Apart from the landing rows: what these change, the marts' recomputation shows too.
IN_MARTS = (
    _of_mart("mart_daily_sales", "net sales of a day", "net_sales_krw = net_sales_krw + 1", "net_sales_krw",
             _ORDER_DAYS),
    _of_mart("fct_orders", "when an order was placed", "placed_ts = placed_ts - interval '1 second'", "placed_ts",
             f"placed_ts IS NOT NULL AND {_OF_RUN}"),
    _of_mart("fct_events", "the customer of an event", "profile_id = coalesce(profile_id, 0) + 1", "profile_id",
             _OF_RUN),
    _of_mart("fct_order_changes", "a change marked as replaced", "is_replaced = NOT is_replaced", "is_replaced",
             _OF_RUN),
    _of_mart("mart_daily_ctr", "a day's click-through rate", "ctr = coalesce(ctr, 0) + 0.000001", "ctr", _EVENT_DAYS),
    _of_mart("mart_hourly_ctr", "an hour's late events", "late_events = late_events + 1", "late_events", _EVENT_DAYS),
    _of_mart("mart_device_performance", "a device's visitors", "visitors = visitors + 1", "visitors", _EVENT_DAYS),
    _of_mart("mart_category_analysis", "a category's purchases per cart",
             "purchases_per_cart = coalesce(purchases_per_cart, 0) + 0.5", "purchases_per_cart", _EVENT_DAYS),
    _of_mart("mart_banner_position", "a banner's click-through rate", "ctr = coalesce(ctr, 0) + 0.1", "ctr",
             _EVENT_DAYS),
    _of_mart("dim_products", "a product's name", "product_name = product_name || 'x'", "product_name", _OF_RUN),
    _of_mart("dim_profiles", "a customer's consent", "marketing_consent = NOT marketing_consent", "marketing_consent",
             _OF_RUN),
    _of_mart("dim_product_versions", "when a product's version began", "valid_from = valid_from - interval '1 second'",
             "valid_from", _OF_RUN),
    _of_mart("dim_profile_versions", "whether a customer's version is the latest", "is_latest = NOT is_latest",
             "is_latest", _OF_RUN),
    _of_mart("mart_sales_funnel", "a device's rate of checkouts", "checkout_rate = coalesce(checkout_rate, 0) + 0.1",
             "checkout_rate", _EVENT_DAYS),
    _of_mart("mart_campaign_performance", "a channel's net amount", "net_krw = net_krw + 1", "net_krw", _EVENT_DAYS),
    _of_mart("mart_customer_segments", "a customer's segment", "rfm_segment = rfm_segment || 'x'", "rfm_segment",
             "profile_id IN (SELECT profile_id FROM raw_crm.orders WHERE run_id = :run)"),
)  # fmt: skip

#: Of the same rows as one above: not at the same time.
ONE_BY_ONE = (
    _of_mart("mart_daily_sales", "a day's average payment", "average_paid_krw = coalesce(average_paid_krw, 0) + 0.01",
             "average_paid_krw", _ORDER_DAYS),
    _of_mart("mart_daily_sales", "cancellations after payment",
             "cancelled_after_payment_krw = cancelled_after_payment_krw + 1", "cancelled_after_payment_krw",
             _ORDER_DAYS),
    _of_mart("fct_orders", "whether an order was paid", "was_paid = NOT was_paid", "was_paid", _OF_RUN),
    _of_mart("mart_device_performance", "a device's purchases per session",
             "purchases_per_session = purchases_per_session + 0.1", "purchases_per_session", _EVENT_DAYS),
)  # fmt: skip
