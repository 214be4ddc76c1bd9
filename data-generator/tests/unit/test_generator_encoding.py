"""Encoded bytes are Avro: fastavro writes the same and reads them back."""

from __future__ import annotations

import io
import uuid
from typing import Any

import fastavro
import pytest

from data_generator.encoding import compile_envelope, compile_payload, encode_long, event_id
from data_platform_core.contracts import ENVELOPE, Contract
from data_platform_core.errors import ConfigurationError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("number", [0, 1, 63, 64, 8191, 8192, 2**20, 2**31 - 1, 1_790_000_000_123, 2**47])
def test_a_long_is_encoded_as_fastavro_encodes_it(number: int) -> None:
    schema = fastavro.parse_schema({"type": "long"})
    for signed in (number, -number):
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, schema, signed)
        assert encode_long(signed) == buffer.getvalue()


def test_every_contracts_record_equals_fastavros_bytes(sends: Any, decode: Any, contracts: dict[str, Contract]) -> None:
    seen = set()
    for entity, send in sends(5_000):
        if send.injected == 3:
            continue
        record = decode(entity, send.value)
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, fastavro.parse_schema(contracts[entity].avro), record)
        assert send.value[5:] == buffer.getvalue()
        seen.add(entity)
    assert seen == set(contracts)


def test_the_envelope_holds_run_producer_and_number(contracts: dict[str, Contract], decode: Any, sends: Any) -> None:
    entity, send = sends(0, run_id="run-x", producer_id=3)[5]
    record = decode(entity, send.value)
    assert (record["run_id"], record["producer_id"], record["seq"]) == ("run-x", 3, 5)
    assert record["source"] == "generator"
    assert record["event_id"] == event_id(entity, "run-x", 3, 5)


def test_event_ids_are_uuids_that_differ_by_run_producer_entity_and_number() -> None:
    ids = {
        event_id(entity, run, producer, seq)
        for entity in ("events", "orders")
        for run in ("a", "b")
        for producer in (0, 1)
        for seq in (0, 1, 2**40)
    }
    assert len(ids) == 24
    assert {uuid.UUID(text).version for text in ids} == {8}
    assert {uuid.UUID(text).variant for text in ids} == {uuid.RFC_4122}


def test_envelope_and_payload_cover_the_schema_in_its_order(contracts: dict[str, Contract]) -> None:
    for entity, contract in contracts.items():
        envelope = compile_envelope(entity, "generator", "r", 0)(1, 1_790_000_000_000, 1_790_000_000_001)
        fields = [field for field in contract.avro["fields"] if field["name"] in ENVELOPE]
        record = fastavro.schemaless_reader(
            io.BytesIO(envelope), fastavro.parse_schema({"type": "record", "name": "Envelope", "fields": fields})
        )
        assert tuple(record) == ENVELOPE  # type: ignore[arg-type]


def test_a_missing_field_is_an_error(contracts: dict[str, Contract]) -> None:
    with pytest.raises(TypeError, match="stock"):
        compile_payload(contracts["products"])(product_id=1, name="x", category="toys", price_krw=1, status="active")


def test_null_in_a_field_that_is_never_null_is_an_error(contracts: dict[str, Contract]) -> None:
    with pytest.raises(TypeError, match="never null"):
        compile_payload(contracts["products"])(
            product_id=1, name="x", category=None, price_krw=1, stock=1, status="active"
        )


def test_a_type_that_cannot_be_written_is_named(contracts: dict[str, Contract]) -> None:
    avro = contracts["products"].avro
    strange = contracts["products"].model_copy(
        update={"avro": avro | {"fields": [*avro["fields"], {"name": "weight", "type": "double", "doc": "kg"}]}}
    )
    with pytest.raises(ConfigurationError, match="products: field weight is of type 'double'"):
        compile_payload(strange)
