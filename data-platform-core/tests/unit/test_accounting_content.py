"""A8's parts without servers: comparing tables, decoding bronze anew, reading PostgreSQL's CSV, exact rates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_platform_core.accounting.content.copies import RECOMPUTED, scopes
from data_platform_core.accounting.content.engine import Engine, Side, comparing
from data_platform_core.accounting.content.types import contract_types, duckdb_type
from data_platform_core.accounting.content.warehouse import MACROS
from data_platform_core.accounting.content.wire import SilverOf, digests
from data_platform_core.contracts import Contract
from data_platform_core.kafka.serialisation import AvroEncoder
from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.warehouse.columns import landing_columns
from data_platform_core.wire.ledger import record_digest

pytestmark = pytest.mark.unit

ARRIVED = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with comparing(memory_mb=256) as one:
        yield one


def load(engine: Engine, name: str, *rows: dict[str, Any]) -> None:
    engine.load(name, pa.Table.from_pylist(list(rows)).to_reader())


def told(engine: Engine, **options: Any) -> list[str]:
    found = engine.differences(Side("found", "mart"), Side("wanted", "silver"), ("k",), ("a", "b"), **options)
    return [str(violation) for violation in found]


def test_equal_tables_do_not_differ_despite_order_and_nulls(engine: Engine) -> None:
    rows = [{"k": 1, "a": "x", "b": None}, {"k": None, "a": None, "b": 2}]
    load(engine, "found", *rows)
    load(engine, "wanted", *reversed(rows))
    assert told(engine) == []


def test_a_difference_names_the_columns_and_the_key(engine: Engine) -> None:
    load(engine, "found", {"k": 1, "a": "x", "b": 1}, {"k": 2, "a": "y", "b": 3}, {"k": 3, "a": None, "b": 4})
    load(engine, "wanted", {"k": 1, "a": "x", "b": 2}, {"k": 2, "a": "x", "b": 2}, {"k": 3, "a": "z", "b": 4})
    assert told(engine) == [
        "1 rows of mart that differ in a from silver: k=3",
        "1 rows of mart that differ in a, b from silver: k=2",
        "1 rows of mart that differ in b from silver: k=1",
    ]


def test_rows_that_one_side_alone_has_are_reported_unless_another_equation_does(engine: Engine) -> None:
    load(engine, "found", {"k": 1, "a": "x", "b": 1}, {"k": 7, "a": "x", "b": 1})
    load(engine, "wanted", {"k": 1, "a": "x", "b": 1}, {"k": 8, "a": "x", "b": 1})
    assert told(engine) == ["1 rows of mart that are not in silver: k=7", "1 rows of silver that are not in mart: k=8"]
    assert told(engine, matching=True) == []


def test_five_examples_stand_for_many(engine: Engine) -> None:
    load(engine, "found", *({"k": n, "a": "x", "b": 1} for n in range(10, 99)))
    load(engine, "wanted", *({"k": n, "a": "x", "b": 2} for n in range(10, 99)))
    assert told(engine) == ["89 rows of mart that differ in b from silver: k=10, k=11, k=12, k=13, k=14"]


def test_what_does_not_fit_into_memory_is_compared_on_disk(engine: Engine) -> None:
    count = 400_000
    wide = pa.table({"k": pa.array(range(count)), "a": pa.array(["x" * 400] * count), "b": pa.array(range(count))})
    with comparing(memory_mb=128) as small:
        small.load("found", wide.to_reader(50_000))
        small.load("wanted", wide.slice(1).to_reader(50_000))
        found = small.differences(Side("found", "mart"), Side("wanted", "silver"), ("k",), ("a", "b"))
    assert [str(violation) for violation in found] == ["1 rows of mart that are not in silver: k=0"]


ENVELOPE = {
    "event_id": "9b2d6a52-7f7e-4a55-8d3c-5a9c2f2b7c11", "event_ts": ARRIVED - timedelta(minutes=5),
    "produced_ts": ARRIVED - timedelta(seconds=1), "source": "generator", "run_id": "r", "producer_id": 0, "seq": 4,
}  # fmt: skip


def order(**changes: Any) -> dict[str, Any]:
    lines = [{"product_id": 9, "quantity": 2, "unit_price_krw": 150}]
    return {
        **ENVELOPE, "order_id": "o1", "order_status": "placed", "profile_id": 3, "lines": lines, "amount_krw": 300,
        "payment_method": "card", "card_fingerprint": None, "ip": "10.0.0.1", **changes,
    }  # fmt: skip


def bronze(*values: bytes | None) -> pa.RecordBatch:
    count = len(values)
    return pa.record_batch(
        {
            "key": pa.array([b"o1"] * count, pa.binary()),
            "value": pa.array(values, pa.binary()),
            "producer_id": pa.array([0] * count, pa.int32()),
            "seq": pa.array(range(count), pa.int64()),
            "partition": pa.array([2] * count, pa.int32()),
            "offset": pa.array(range(count), pa.int64()),
            "kafka_ts": pa.array([ARRIVED] * count, pa.timestamp("us", tz="UTC")),
        }
    )


@pytest.fixture
def orders(contracts: dict[str, Contract]) -> Contract:
    return contracts["orders"]


def test_silver_is_recomputed_from_bronzes_bytes(orders: Contract) -> None:
    value = AvroEncoder(orders, 7).encode(order())
    (row,) = SilverOf(orders, {7: orders.avro_json}).rows(bronze(value)).to_pylist()
    assert row.pop("decodes") is True
    assert {name: row[name] for name in order()} == order()
    assert (row["kafka_partition"], row["kafka_offset"], row["kafka_ts"]) == (2, 0, ARRIVED)
    assert (row["is_late"], row["event_date"]) == (False, date(2026, 11, 21))


@pytest.mark.parametrize(
    ("behind", "source", "late"),
    [
        (timedelta(minutes=60), "generator", False),
        (timedelta(minutes=60, milliseconds=1), "generator", True),
        (timedelta(days=40), "backfill", False),
        (timedelta(days=40), "seed", False),
        (timedelta(days=-1), "generator", False),
    ],
)
def test_late_is_what_arrives_later_than_the_contract_allows(
    orders: Contract, behind: timedelta, source: str, late: bool
) -> None:
    value = AvroEncoder(orders, 7).encode(order(event_ts=ARRIVED - behind, source=source))
    rows = SilverOf(orders, {7: orders.avro_json}).rows(bronze(value))
    assert rows["is_late"].to_pylist() == [late]


def test_bytes_that_do_not_decode_make_no_row_of_silver_and_stop_nothing(orders: Contract) -> None:
    good = AvroEncoder(orders, 7).encode(order())
    values = [
        None,
        b"",
        b"\x00\x00\x00\x00\x07",
        good[:40],
        b"\x01" + good[1:],
        b"\x00\x00\x00\x00\x08" + good[5:],
        good,
    ]
    rows = SilverOf(orders, {7: orders.avro_json}).rows(bronze(*values))
    assert rows["decodes"].to_pylist() == [False] * 6 + [True]
    assert rows["event_id"].null_count == 6


def test_times_beyond_what_microseconds_hold_stop_nothing(orders: Contract) -> None:
    value = AvroEncoder(orders, 7).encode(order(event_ts=2**63 - 1, produced_ts=-(2**63)))
    assert len(SilverOf(orders, {7: orders.avro_json}).rows(bronze(value))) == 1


def test_an_int_that_is_longer_than_its_type_stops_nothing(orders: Contract) -> None:
    """Java drops the excess bits; here the value is null, unlike in silver."""
    good = AvroEncoder(orders, 7).encode(order(producer_id=5))
    at = good.index(b"generator\x02r\x0a") + len(b"generator\x02r")
    longer = good[:at] + b"\x8a\x80\x80\x80\x70" + good[at + 1 :]
    rows = SilverOf(orders, {7: orders.avro_json}).rows(bronze(longer, good))
    assert rows["decodes"].to_pylist() == [True, True]
    assert rows["producer_id"].to_pylist() == [None, 5]


def test_a_digest_is_that_of_the_ledger_nulls_too() -> None:
    rows = bronze(b"abc", None)
    assert digests(rows).to_pylist() == [record_digest(b"o1", b"abc"), record_digest(b"o1", b"")]


def test_what_copy_writes_as_csv_is_read_back_exactly(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    document = '"[{""q"": 2, ""p"": 9000000000000000000}]"'
    text = (
        f'1,"","say ""hi"", twice",2026-01-01 00:00:00.000123+00,1999-12-31,t,{document}\n'
        '2,,"two\nlines\r\nand \\N é漢😀",infinity,-infinity,f,[]\n'
    )
    file.write_text(text, encoding="utf-8", newline="")
    types = {
        "n": "BIGINT", "empty": "VARCHAR", "text": "VARCHAR", "moment": "TIMESTAMPTZ", "day": "DATE", "yes": "BOOLEAN",
        "doc": "JSON",
    }  # fmt: skip
    assert engine.load_csv("rows", file, types, {"doc": "STRUCT(q INTEGER, p BIGINT)[]"}) == 2
    rows = engine.query('SELECT n, empty, text, moment::VARCHAR, day::VARCHAR, yes, doc FROM "rows" ORDER BY n')
    assert rows == [
        (1, "", 'say "hi", twice', "2026-01-01 00:00:00.000123+00", "1999-12-31", True, [{"q": 2, "p": 9 * 10**18}]),
        (2, None, "two\nlines\r\nand \\N é漢😀", "infinity", "-infinity", False, []),
    ]


@pytest.mark.parametrize(
    ("expression", "exact"),
    [
        ("rate(1, 3)", Decimal("0.333333")),
        ("rate(2, 3)", Decimal("0.666667")),
        ("rate(1, 2000000)", Decimal("0.000001")),  # half is rounded up, as by PostgreSQL's round
        ("rate(0, 5)", Decimal("0.000000")),
        ("rate(5, 0)", None),
        ("average(100, 3)", Decimal("33.33")),
        ("average(10000000000000000000000001, 2)", Decimal("5000000000000000000000000.50")),
        ("average(NULL, 0)", None),
        ("won(NULL)", Decimal("0.000000")),
        ("business_day(TIMESTAMPTZ '2026-01-01 15:00:00+00')", date(2026, 1, 2)),
    ],
)
def test_rates_and_days_are_exact(engine: Engine, expression: str, exact: object) -> None:
    engine.sql.execute(MACROS.format(timezone="Asia/Seoul"))
    assert engine.query(f"SELECT {expression}") == [(exact,)]


def test_every_mart_is_recomputed() -> None:
    """A new model without a recomputation would be unchecked without notice."""
    models = {path.stem for path in (REPOSITORY_ROOT / "dbt" / "models" / "marts").glob("*.sql")}
    assert {mart.name for scope in scopes().values() for mart in scope.marts} == models
    assert {path.stem for path in RECOMPUTED.glob("*.sql")} == models


def test_every_column_of_every_contract_has_its_types(contracts: dict[str, Contract]) -> None:
    for contract in contracts.values():
        assert list(contract_types(contract)) == list(contract.columns)
        assert all(duckdb_type(column.sql_type) for column in landing_columns(contract))
