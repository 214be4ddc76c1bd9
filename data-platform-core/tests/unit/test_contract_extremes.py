"""Valid records are decoded, checked, and written for PostgreSQL exactly; all others are dead letters.

The records are derived from each contract (tests/support/extremes.py); an oracle that shares no code with the stream
states the expected outcome of each (tests/support/oracle.py). `make test-faults` sends them through every stage.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

import oracle
import pyarrow as pa
import pytest
from arrivals import Arrived, arrivals, fuzzed
from avro_wire import framed
from extremes import Arrival, Example, combinations, singles
from good_records import good_records
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from data_platform_core.batch.copy_format import copy_lines
from data_platform_core.contracts import Contract, entities, load_contracts
from data_platform_core.streaming.transforms.decode import Decoder, KafkaRows
from data_platform_core.streaming.transforms.layers import Layers
from data_platform_core.streaming.transforms.rules import contract_checks
from data_platform_core.warehouse.columns import contract_columns, silver_columns
from data_platform_core.wire.ledger import ORIGIN_HEADER, parse_origin

SCHEMA_ID = 7
ARRIVAL = Arrival(1_772_366_400_000)  # 2026-03-01 12:00 UTC
COMBINATIONS = 50
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: A topic's limit, headers included.
MAX_MESSAGE = 1 << 20


def grown(contracts: dict[str, Contract]) -> Contract:
    """Orders with field types that no contract has yet: text inside lines, a map, a number with a point, an enum."""
    orders = contracts["orders"]
    avro = json.loads(orders.avro_json)
    lines = next(field for field in avro["fields"] if field["name"] == "lines")
    lines["type"]["items"]["fields"].append({"name": "note", "type": ["null", "string"], "doc": "-", "default": None})
    avro["fields"] += [
        {"name": "labels", "type": {"type": "map", "values": "string"}, "doc": "-"},
        {"name": "weight_kg", "type": ["null", "double"], "doc": "-", "default": None},
        {"name": "gift", "type": {"type": "enum", "name": "Gift", "symbols": ["yes", "no"]}, "doc": "-"},
    ]
    return orders.model_copy(update={"avro": avro})


@pytest.fixture(scope="module", params=[*entities(), "orders, grown"])
def contract(request: pytest.FixtureRequest, contracts: dict[str, Contract]) -> Contract:
    return contracts[request.param] if request.param in contracts else grown(contracts)


@pytest.fixture(scope="module")
def good(contract: Contract, contracts: dict[str, Contract]) -> list[oracle.Record]:
    """Good records of the generator's, with what `grown` adds where the contract has it."""
    records = good_records(contracts, ARRIVAL.ms, "run-1")[contract.entity]
    if contract == contracts[contract.entity]:
        return records
    news = {"labels": {"colour": "red"}, "weight_kg": 0.5, "gift": "no"}
    return [record | news | {"lines": [line | {"note": "x"} for line in record["lines"]]} for record in records]


@pytest.fixture(scope="session")
def derived() -> dict[str, list[Example]]:
    """Examples by schema. Deriving them takes seconds, and tests without Spark run separately from those with it."""
    return {}


@pytest.fixture(scope="module")
def examples(contract: Contract, good: list[oracle.Record], derived: dict[str, list[Example]]) -> list[Example]:
    if contract.avro_json not in derived:
        one = singles(contract, good, ARRIVAL)
        derived[contract.avro_json] = one + combinations(contract, good, ARRIVAL, COMBINATIONS, len(one))
    return derived[contract.avro_json]


@pytest.mark.unit
def test_the_extremes_break_every_rule_and_keep_every_field(contract: Contract, examples: list[Example]) -> None:
    broken = [oracle.broken(contract, example.record, ARRIVAL.ms) for example in examples]
    assert {f"contract:{rule}" for rule in contract_checks(contract)} <= {rule for rules in broken for rule in rules}
    kept = {field for example, rules in zip(examples, broken, strict=True) if not rules for field in example.fields}
    assert set(contract.columns) <= kept


@pytest.mark.spark
def test_every_extreme_has_the_contracts_outcome(
    spark: SparkSession, contract: Contract, examples: list[Example]
) -> None:
    values = [framed(contract.avro, SCHEMA_ID, example.record) for example in examples]
    arrived = [Arrived(e.label, b"1", value, frozenset()) for e, value in zip(examples, values, strict=True)]
    decoded = judged(spark, contract, arrived)
    expected = [oracle.broken(contract, example.record, ARRIVAL.ms) for example in examples]

    reasons = dict(decoded.select("kafka_offset", "reason").collect())
    wrong = [
        f"{example.label}: {reasons[at]}, not {sorted(said) or 'kept'}"
        for at, (example, said) in enumerate(zip(examples, expected, strict=True))
        if (reasons[at] not in said) != (reasons[at] is None and not said)
    ]
    assert not wrong, "\n".join(wrong)
    kept = [at for at, said in enumerate(expected) if not said]
    assert_silver_and_copy(contract, decoded, {at: examples[at].record for at in kept})
    layers = Layers(contract)
    assert layers.bronze(decoded).count() == len(examples)
    assert layers.dead_letters(decoded).count() == len(examples) - len(kept)


def assert_silver_and_copy(contract: Contract, decoded: DataFrame, records: dict[int, oracle.Record]) -> None:
    """Silver has exactly `records`, by offset, and each COPY line reads back as its record."""
    columns = silver_columns(contract)
    offset = next(at for at, column in enumerate(columns) if column.name == "kafka_offset")
    lines = [row["line"].split("\t") for row in copy_lines(Layers(contract).silver(decoded, []), columns).collect()]
    assert sorted(int(line[offset]) for line in lines) == sorted(records)
    late = next(at for at, column in enumerate(columns) if column.name == "is_late")
    for line in lines:
        record = records[int(line[offset])]
        for column, text in zip(contract_columns(contract), line, strict=False):
            found, sent = read_back(text, column.sql_type), plain(record[column.name])
            assert repr(found) == repr(sent), f"{column.name}: {found!r} was sent as {sent!r}"
        assert line[late] == str(oracle.late(contract, record, ARRIVAL.ms)).lower()


def plain(value: Any) -> Any:
    """A wire value as JSON and COPY have it."""
    return value.decode() if isinstance(value, bytes) else value


def read_back(field: str, sql_type: str) -> Any:
    """A field of COPY's text format as a wire value."""
    if field == r"\N":
        return None
    text = re.sub(r"\\(.)", lambda found: {"t": "\t", "n": "\n", "r": "\r"}.get(found[1], found[1]), field, flags=re.S)
    return READERS[sql_type](text)


READERS = {
    "text": str,
    "bigint": int,
    "integer": int,
    "double precision": float,
    "boolean": lambda text: {"true": True, "false": False}[text],
    "jsonb": json.loads,
    "timestamp with time zone": lambda text: (
        (datetime.fromisoformat(text.removesuffix(" AD")) - EPOCH) // timedelta(milliseconds=1)
    ),
    "date": lambda text: (date.fromisoformat(text.removesuffix(" AD")) - EPOCH.date()).days,
}


@pytest.mark.spark
def test_every_arrival_has_one_fate_and_its_dead_letter_fits(
    spark: SparkSession, contract: Contract, good: list[oracle.Record]
) -> None:
    others = {"another": 8, "a third": 9}
    found = [*arrivals(contract, own_events(good), own_events(good), SCHEMA_ID, others)]
    decoded = judged(spark, contract, found)
    reasons = dict(decoded.select("kafka_offset", "reason").collect())
    wrong = [
        f"{one.label}: {reasons[at]}, not {sorted(one.reasons) or 'kept'}"
        for at, one in enumerate(found)
        if reasons[at] != next(iter(one.reasons), None)
    ]
    assert not wrong, "\n".join(wrong)

    layers = Layers(contract)
    origins = layers.bronze(decoded).select("offset", "run_id", "producer_id", "seq").collect()
    for row in origins:
        headers = found[row["offset"]].headers or ()
        first = next((value for name, value in headers if name == ORIGIN_HEADER), None)
        said = parse_origin(first)
        assert tuple(row)[1:] == ((said.run_id, said.producer_id, said.seq) if said else (None, None, None))
    for letter in layers.dead_letters(decoded).collect():
        headers = sum(len(header["key"]) + len(header["value"] or b"") for header in letter["headers"])
        assert len(letter["key"] or b"") + len(letter["value"] or b"") + headers < MAX_MESSAGE


@pytest.mark.spark
def test_a_body_of_changed_bytes_fails_no_batch(
    spark: SparkSession, contract: Contract, good: list[oracle.Record]
) -> None:
    bodies = (framed(contract.avro, SCHEMA_ID, record) for record in own_events(good))
    values = [*fuzzed(bodies, 300, seed=9)]
    decoded = judged(spark, contract, [Arrived("fuzzed", b"1", value, frozenset()) for value in values])
    layers = Layers(contract)
    silver = layers.silver(decoded, [])
    assert silver.count() + layers.dead_letters(decoded).count() == len(values)
    assert len(copy_lines(silver, silver_columns(contract)).collect()) == silver.count()


def own_events(records: list[oracle.Record]) -> Iterator[oracle.Record]:
    """An endless supply of good records, each with its own event id."""
    for number in count():
        record = records[number % len(records)]
        yield record | {"event_id": f"{number:08x}{record['event_id'][8:]}"}


def judged(spark: SparkSession, contract: Contract, found: list[Arrived]) -> DataFrame:
    """The records decoded, stored, at offsets from 0."""
    size = len(found)
    table = pa.table(
        {
            "key": pa.array([one.key for one in found], pa.binary()),
            "value": pa.array([one.value for one in found], pa.binary()),
            "topic": pa.array([contract.names.topic] * size),
            "partition": pa.array([1] * size, pa.int32()),
            "offset": pa.array(range(size), pa.int64()),
            "headers": pa.array(
                [[{"key": name, "value": value} for name, value in one.headers or ()] for one in found],
                pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])),
            ),
        }
    )
    batch = spark.createDataFrame(table).withColumn("timestamp", F.timestamp_millis(F.lit(ARRIVAL.ms)))
    decode = Decoder(contract, {SCHEMA_ID: contract.avro_json})
    return decode(KafkaRows()(batch)).localCheckpoint()


@pytest.mark.unit
def test_a_contract_may_not_be_without_extremes() -> None:
    assert set(oracle.RULES) == set(load_contracts())
