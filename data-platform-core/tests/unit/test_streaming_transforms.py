"""From Kafka's bytes to bronze, silver and dead letters, on literal frames."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import fastavro
import pytest
from pyspark.sql import DataFrame, SparkSession

from data_platform_core.contracts import BACKFILL_SOURCE, ENVELOPE, SEED_SOURCE, Contract
from data_platform_core.lake.tables import silver_schema
from data_platform_core.streaming.transforms.decode import Decoder, KafkaRows, slowed
from data_platform_core.streaming.transforms.layers import Layers
from data_platform_core.wire.columns import BRONZE_COLUMNS, ddl
from data_platform_core.wire.dead_letters import contract_reason
from data_platform_core.wire.ledger import ORIGIN_HEADER, origin
from data_platform_core.wire.positions import position

pytestmark = pytest.mark.spark

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCHEMA_ID = 7
KAFKA_SOURCE = (
    "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP, "
    "timestampType INT, headers ARRAY<STRUCT<key: STRING, value: BINARY>>"
)


def event(**changes: Any) -> dict[str, Any]:
    record = {
        "event_id": str(uuid.UUID(int=1)),
        "event_ts": NOW,
        "produced_ts": NOW,
        "source": "generator",
        "run_id": "run-1",
        "producer_id": 0,
        "seq": 5,
        "event_type": "click",
        "session_id": "s1",
        "profile_id": 3,
        "product_id": 9,
        "order_id": None,
        "device": "mobile",
        "os": "android",
        "channel": "email",
        "site_category": "home",
        "app_category": None,
        "banner_position": 2,
        "search_query": None,
        "rating": None,
    }
    return {**record, **changes}


def order(**changes: Any) -> dict[str, Any]:
    record = {
        **{
            name: event()[name]
            for name in ("event_id", "event_ts", "produced_ts", "source", "run_id", "producer_id", "seq")
        },
        "order_id": "o-1",
        "order_status": "paid",
        "profile_id": 3,
        "lines": [{"product_id": 9, "quantity": 2, "unit_price_krw": 5_000_000_000}],
        "amount_krw": 10_000_000_000,
        "payment_method": "card",
        "card_fingerprint": "a" * 64,
        "ip": "10.0.0.1",
    }
    return {**record, **changes}


def product(**changes: Any) -> dict[str, Any]:
    envelope = {name: event()[name] for name in ENVELOPE}
    record = {"product_id": 9, "name": "a book", "category": "books", "price_krw": 1, "stock": 1, "status": "active"}
    return {**envelope, **record, **changes}


def profile(**changes: Any) -> dict[str, Any]:
    envelope = {name: event()[name] for name in ENVELOPE}
    record = {
        "profile_id": 3, "email": "user3@test.com", "grade": "gold", "segment": "loyal", "signup_channel": "email",
        "signup_date": NOW.date(), "marketing_consent": True,
    }  # fmt: skip
    return {**envelope, **record, **changes}


MAKERS = {"events": event, "orders": order, "products": product, "profiles": profile}


def framed(contract: Contract, record: dict[str, Any], schema_id: int = SCHEMA_ID) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, contract.avro, record)
    return struct.pack(">bI", 0, schema_id) + body.getvalue()


def kafka_row(value: bytes | None, offset: int = 0, partition: int = 1) -> tuple[Any, ...]:
    headers = [(ORIGIN_HEADER, bytearray(origin("run-1", 4, 100 + offset)))]
    return (
        bytearray(b"3"),
        None if value is None else bytearray(value),
        "crm.events.v1",
        partition,
        offset,
        NOW,
        0,
        headers,
    )


def judged(spark: SparkSession, contract: Contract, *values: bytes | None) -> DataFrame:
    rows = [kafka_row(value, offset) for offset, value in enumerate(values)]
    batch = spark.createDataFrame(rows, KAFKA_SOURCE)
    return Decoder(contract, {SCHEMA_ID: contract.avro_json})(KafkaRows()(batch))


def reasons(spark: SparkSession, contract: Contract, *values: bytes | None) -> list[str | None]:
    return [
        row["reason"] for row in judged(spark, contract, *values).orderBy("kafka_offset").select("reason").collect()
    ]


def test_a_good_event_comes_out_as_it_went_in(spark: SparkSession, contracts: dict[str, Contract]) -> None:
    row = judged(spark, contracts["events"], framed(contracts["events"], event())).first()
    assert row is not None
    assert row["reason"] is None
    assert row["is_late"] is False
    out = {name: row[name] for name in contracts["events"].columns}
    expected = {**event(), "event_ts": out["event_ts"], "produced_ts": out["produced_ts"]}
    assert out == expected
    assert out["event_ts"].timestamp() == NOW.timestamp()


def test_an_orders_lines_and_amount_survive_beyond_32_bits(spark: SparkSession, contracts: dict[str, Contract]) -> None:
    row = judged(spark, contracts["orders"], framed(contracts["orders"], order())).first()
    assert row is not None
    assert row["reason"] is None
    assert row["amount_krw"] == 10_000_000_000
    assert [tuple(line) for line in row["lines"]] == [(9, 2, 5_000_000_000)]


def test_bytes_that_are_no_record_are_named_and_stop_nothing(
    spark: SparkSession, contracts: dict[str, Contract]
) -> None:
    events = contracts["events"]
    good = framed(events, event())
    huge_string = struct.pack(">bI", 0, SCHEMA_ID) + b"\xfe\xff\xff\xff\x0f" + b"x" * 20
    assert reasons(
        spark, events, None, b"", b"\x00\x00", b"{json}", framed(events, event(), 99), good[:20], huge_string, good
    ) == [
        "not_avro_framed",
        "not_avro_framed",
        "not_avro_framed",
        "not_avro_framed",
        "unknown_schema_id",
        "undecodable",
        "undecodable",
        None,
    ]


def test_a_broken_contract_is_named_by_its_check(spark: SparkSession, contracts: dict[str, Contract]) -> None:
    events, orders = contracts["events"], contracts["orders"]
    assert reasons(
        spark,
        events,
        framed(events, event(event_type="hover")),
        framed(events, event(site_category=None)),
        framed(events, event(product_id=None)),
        framed(events, event(event_id="short")),
        framed(events, event(banner_position=-1)),
    ) == [
        "contract:event_type_accepted",
        "contract:one_category",
        "contract:product_where_needed",
        "contract:id_is_uuid",
        "contract:banner_only_when_shown",
    ]
    assert reasons(
        spark,
        orders,
        framed(orders, order(amount_krw=1)),
        framed(orders, order(lines=[], amount_krw=0)),
        framed(orders, order(card_fingerprint="4111111111111111")),
        framed(orders, order(payment_method="bank_transfer")),
    ) == [
        "contract:amount_is_sum_of_lines",
        "contract:has_lines",
        "contract:card_hashed",
        "contract:card_only_for_cards",
    ]


def test_values_that_overflow_are_dead_letters_not_a_failed_batch(
    spark: SparkSession, contracts: dict[str, Contract]
) -> None:
    orders = contracts["orders"]
    huge = [{"product_id": 1, "quantity": 2**31 - 1, "unit_price_krw": 2**62}]
    assert reasons(spark, orders, framed(orders, order(lines=huge))) == ["contract:amount_is_sum_of_lines"]


def test_an_event_time_in_another_unit_is_no_event_time(spark: SparkSession, contracts: dict[str, Contract]) -> None:
    events = contracts["events"]
    microseconds = int(NOW.timestamp() * 1_000_000)
    assert reasons(
        spark,
        events,
        framed(events, event(event_ts=microseconds)),
        framed(events, event(event_ts=int(NOW.timestamp()))),
        framed(events, event(event_ts=NOW + timedelta(hours=23))),
    ) == ["contract:event_time_plausible", "contract:event_time_plausible", None]


def test_a_dead_letter_too_large_to_forward_is_marked(spark: SparkSession, contracts: dict[str, Contract]) -> None:
    (row,) = Layers(contracts["events"]).dead_letters(judged(spark, contracts["events"], b"x" * 1_000_000)).collect()
    headers = {header["key"]: bytes(header["value"]).decode() for header in row["headers"]}
    assert row["value"] is None
    assert headers["dlq-too-large"] == "1000001"
    assert headers["dlq-source"] == "crm.events.v1/1/0"


def test_every_entitys_checks_are_valid_sql(spark: SparkSession, contracts: dict[str, Contract]) -> None:
    for contract in contracts.values():
        assert reasons(spark, contract, b"not a record") == ["not_avro_framed"]


def test_a_record_of_an_older_schema_is_read_as_the_contracts(
    spark: SparkSession, contracts: dict[str, Contract]
) -> None:
    events = contracts["events"]
    older = {**events.avro, "fields": [field for field in events.avro["fields"] if field["name"] != "search_query"]}
    body = io.BytesIO()
    fastavro.schemaless_writer(body, older, event())
    rows = [kafka_row(struct.pack(">bI", 0, 3) + body.getvalue())]

    decode = Decoder(events, {3: json.dumps(older), SCHEMA_ID: events.avro_json})
    frame = decode(KafkaRows()(spark.createDataFrame(rows, KAFKA_SOURCE)))
    row = frame.first()
    assert row is not None
    assert (row["reason"], row["search_query"], row["event_type"]) == (None, None, "click")


def test_late_means_older_than_the_contract_allows_when_it_arrived(
    spark: SparkSession, contracts: dict[str, Contract]
) -> None:
    events = contracts["events"]
    limit = timedelta(minutes=events.silver.allowed_lateness_minutes)
    frame = judged(
        spark,
        events,
        framed(events, event(event_ts=NOW - limit)),
        framed(events, event(event_ts=NOW - limit - timedelta(milliseconds=1))),
    )
    assert [row["is_late"] for row in frame.orderBy("kafka_offset").collect()] == [False, True]


def test_history_is_never_late(spark: SparkSession, contracts: dict[str, Contract]) -> None:
    old = NOW - timedelta(days=300)
    sources = (BACKFILL_SOURCE, SEED_SOURCE, "normal")
    frame = judged(
        spark,
        contracts["events"],
        *(framed(contracts["events"], event(event_ts=old, source=source)) for source in sources),
    )
    assert [row["is_late"] for row in frame.orderBy("kafka_offset").collect()] == [False, False, True]


def test_bronze_keeps_every_byte_and_where_it_came_from(spark: SparkSession, contracts: dict[str, Contract]) -> None:
    good = framed(contracts["events"], event())
    rows = (
        Layers(contracts["events"])
        .bronze(judged(spark, contracts["events"], good, b"poison"))
        .orderBy("offset")
        .collect()
    )
    assert [bytes(row["value"]) for row in rows] == [good, b"poison"]
    assert [(row["run_id"], row["producer_id"], row["seq"], row["partition"], row["offset"]) for row in rows] == [
        ("run-1", 4, 100, 1, 0),
        ("run-1", 4, 101, 1, 1),
    ]


def test_bronze_and_silver_are_written_with_their_tables_types(
    spark: SparkSession, contracts: dict[str, Contract]
) -> None:
    events = contracts["events"]
    frame, layers = judged(spark, events, framed(events, event())), Layers(events)
    bronze = spark.createDataFrame([], ddl(BRONZE_COLUMNS)).schema
    for written, table in ((layers.bronze(frame), bronze), (layers.silver(frame, []), silver_schema(spark, events))):
        assert [(field.name, field.dataType) for field in written.schema] == [(f.name, f.dataType) for f in table]


def test_a_record_without_origin_is_kept_without_one(spark: SparkSession, contracts: dict[str, Contract]) -> None:
    row = (bytearray(b"k"), bytearray(b"v"), "t", 0, 0, NOW, 0, None)
    broken = (bytearray(b"k"), bytearray(b"v"), "t", 0, 1, NOW, 0, [(ORIGIN_HEADER, bytearray(b"\xff\xfe/x"))])
    frame = KafkaRows()(spark.createDataFrame([row, broken], KAFKA_SOURCE)).orderBy("kafka_offset")
    first, second = frame.collect()
    assert (first["origin_run_id"], first["origin_seq"]) == (None, None)
    assert (second["origin_producer_id"], second["origin_seq"]) == (None, None)


def test_silver_leaves_out_dead_letters_and_duplicates(spark: SparkSession, contracts: dict[str, Contract]) -> None:
    events = contracts["events"]
    good = framed(events, event())
    frame = judged(spark, events, good, b"poison", good, good)
    rows = Layers(events).silver(frame, [position(1, 2)]).orderBy("kafka_offset").collect()
    assert [row["kafka_offset"] for row in rows] == [0, 3]
    assert rows[0]["event_date"].isoformat() == "2026-03-01"


def test_a_dead_letter_carries_its_bytes_reason_and_source(spark: SparkSession, contracts: dict[str, Contract]) -> None:
    good = framed(contracts["events"], event())
    rows = Layers(contracts["events"]).dead_letters(judged(spark, contracts["events"], good, b"poison")).collect()
    assert len(rows) == 1
    headers = {header["key"]: bytes(header["value"]).decode() for header in rows[0]["headers"]}
    assert bytes(rows[0]["value"]) == b"poison"
    assert headers["dlq-reason"] == "not_avro_framed"
    assert headers["dlq-source"] == "crm.events.v1/1/1"
    assert headers["dlq-timestamp"] == str(int(NOW.timestamp() * 1000))
    assert headers[ORIGIN_HEADER] == "run-1/4/101"


def test_a_good_record_is_known_by_the_md5_of_its_event_id(spark: SparkSession, contracts: dict[str, Contract]) -> None:
    ids = [str(uuid.UUID(int=9)), "é 🦊"]
    good = (framed(contracts["events"], event(event_id=event_id)) for event_id in ids)
    frame = judged(spark, contracts["events"], *good, b"poison")
    rows = Layers(contracts["events"]).identities(frame).orderBy("kafka_offset").collect()
    keys = [None if row["id"] is None else bytes(row["id"]) for row in rows]
    assert keys == [*(hashlib.md5(event_id.encode()).digest() for event_id in ids), None]


def test_a_record_cost_delays_each_record_and_changes_none(spark: SparkSession) -> None:
    rows = spark.range(20, numPartitions=1)
    began = time.monotonic()
    slow = slowed(rows, 10_000)
    assert [row["id"] for row in slow.localCheckpoint().select("id").collect()] == list(range(20))
    assert time.monotonic() - began >= 20 * 0.010  # a lower bound: each waited


def test_no_record_cost_leaves_the_frame_alone(spark: SparkSession) -> None:
    rows = spark.range(1)
    assert slowed(rows, 0) is rows


@pytest.mark.parametrize(
    ("entity", "changes", "rule"),
    [
        ("profiles", {"signup_date": 2147483647}, "signup_plausible"),
        ("profiles", {"signup_date": -2147483648}, "signup_plausible"),
        ("profiles", {"signup_date": 106751992}, "signup_plausible"),
        ("profiles", {"email": "a@" + "b" * 319}, "email_length"),
        ("events", {"site_category": "x" * 9_000}, "site_category_length"),
        ("events", {"produced_ts": 9223372036854775}, "produced_ts_plausible"),
        ("events", {"produced_ts": -9223372036854775}, "produced_ts_plausible"),
        ("events", {"produced_ts": NOW + timedelta(days=2)}, "produced_ts_plausible"),
        ("orders", {"order_id": "o" * 201}, "order_id_length"),
        (
            "orders",
            {"lines": [{"product_id": 9, "quantity": 1, "unit_price_krw": 9 * 10**18}], "amount_krw": 9 * 10**18},
            "amounts_in_bounds",
        ),
        (
            "orders",
            {"lines": [{"product_id": 9, "quantity": 1, "unit_price_krw": 1}] * 10_001, "amount_krw": 10_001},
            "lines_in_bounds",
        ),
        ("products", {"price_krw": 10**12 + 1}, "price_in_bounds"),
    ],
)
def test_nonsense_is_a_dead_letter_with_the_rules_name(
    spark: SparkSession, contracts: dict[str, Contract], entity: str, changes: dict[str, Any], rule: str
) -> None:
    contract, make = contracts[entity], MAKERS[entity]
    assert reasons(spark, contract, framed(contract, make()), framed(contract, make(**changes))) == [
        None,
        contract_reason(rule),
    ]
