"""The wire format: what is encoded is decoded, and every kind of garbage has its dead letter's reason."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from typing import Any

import pytest

from data_platform_core.contracts import Contract
from data_platform_core.kafka.serialisation import AvroEncoder, DecodeError, decode, schema_id_of
from data_platform_core.wire.dead_letters import Reason

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)
ORDER: dict[str, Any] = {
    "event_id": "0" * 36,
    "event_ts": NOW,
    "produced_ts": NOW,
    "source": "test",
    "run_id": "run-1",
    "producer_id": 0,
    "seq": 7,
    "order_id": "o-1",
    "order_status": "paid",
    "profile_id": 12,
    "lines": [{"product_id": 3, "quantity": 2, "unit_price_krw": 1500}],
    "amount_krw": 3000,
    "payment_method": "kakao_pay",
    "card_fingerprint": None,
    "ip": "10.0.0.1",
}
ID = 300


@pytest.fixture
def value(contracts: dict[str, Contract]) -> bytes:
    return AvroEncoder(contracts["orders"], ID).encode(ORDER)


def reason(value: bytes | None, schemas: dict[int, str]) -> Reason:
    with pytest.raises(DecodeError) as failed:
        decode(value, schemas)
    return failed.value.reason


def test_a_record_comes_back_as_it_was(value: bytes, contracts: dict[str, Contract]) -> None:
    assert decode(value, {ID: contracts["orders"].avro_json}) == ORDER


def test_the_frame_is_a_zero_byte_and_the_schema_id_in_network_order(value: bytes) -> None:
    assert value[:5] == b"\x00" + (300).to_bytes(4, "big")
    assert schema_id_of(value) == ID


@pytest.mark.parametrize("broken", [{"seq": "seven"}, {"amount_krw": None}, {"colour": "red"}])
def test_a_record_that_does_not_fit_is_refused(contracts: dict[str, Contract], broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="does not fit schema"):
        AvroEncoder(contracts["orders"], ID).encode({**ORDER, **broken})


def test_a_field_that_is_missing_is_refused(contracts: dict[str, Contract]) -> None:
    with pytest.raises(ValueError, match="does not fit schema"):
        AvroEncoder(contracts["orders"], ID).encode({key: ORDER[key] for key in ORDER if key != "ip"})


@pytest.mark.parametrize("value", [None, b"", b"\x00\x00\x00\x01\x2c", b'{"json": true}'])
def test_what_has_no_frame_is_not_avro(value: bytes | None, contracts: dict[str, Contract]) -> None:
    assert reason(value, {ID: contracts["orders"].avro_json}) is Reason.NOT_AVRO_FRAMED


def test_a_schema_id_of_another_subject_is_unknown(value: bytes, contracts: dict[str, Contract]) -> None:
    assert reason(value, {ID + 1: contracts["orders"].avro_json}) is Reason.UNKNOWN_SCHEMA_ID


def test_a_body_cut_anywhere_is_undecodable(value: bytes, contracts: dict[str, Contract]) -> None:
    schemas = {ID: contracts["orders"].avro_json}
    for length in range(6, len(value)):
        assert reason(value[:length], schemas) is Reason.UNDECODABLE


def test_a_string_that_claims_a_gigabyte_is_undecodable(contracts: dict[str, Contract]) -> None:
    claim = struct.pack(">BI", 0, ID) + b"\xfe\xff\xff\xff\x07"
    assert reason(claim, {ID: contracts["orders"].avro_json}) is Reason.UNDECODABLE


def test_an_older_producer_is_read_as_todays_contract(value: bytes, contracts: dict[str, Contract]) -> None:
    today = json.loads(contracts["orders"].avro_json)
    today["fields"].append({"name": "coupon", "type": ["null", "string"], "default": None, "doc": "A coupon."})
    record = decode(value, {ID: contracts["orders"].avro_json}, json.dumps(today))
    assert record == {**ORDER, "coupon": None}
