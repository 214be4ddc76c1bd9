"""What is exchanged between the stages has one description; every system that reads it agrees on it."""

from __future__ import annotations

import hashlib

import duckdb
import pytest

from data_platform_core.contracts import Contract
from data_platform_core.wire.columns import BRONZE_COLUMNS, BRONZE_PARTITION, SILVER_COLUMNS, silver_columns
from data_platform_core.wire.frame import FRAME_BYTES, frame, framed_id
from data_platform_core.wire.keys import KEY_BYTES, KEY_SQL
from data_platform_core.wire.landing import LANDED_FILE

pytestmark = pytest.mark.unit


def test_the_frame_is_confluents() -> None:
    assert frame(258) == b"\x00\x00\x00\x01\x02"
    assert len(frame(0)) == FRAME_BYTES


@pytest.mark.parametrize("schema_id", [0, 7, 1 << 31, (1 << 32) - 1])
def test_a_framed_value_gives_its_schema_id_back(schema_id: int) -> None:
    assert framed_id(frame(schema_id) + b"x") == schema_id


@pytest.mark.parametrize("value", [None, b"", b"\x00\x00\x00", frame(7), b"\x01" + frame(7)[1:] + b"x"])
def test_without_a_frame_or_a_body_there_is_no_schema_id(value: bytes | None) -> None:
    assert framed_id(value) is None


@pytest.mark.parametrize("schema_id", [-1, 1 << 32])
def test_an_id_of_more_than_four_bytes_has_no_frame(schema_id: int) -> None:
    with pytest.raises(OverflowError):
        frame(schema_id)


def test_a_key_is_the_md5_of_the_event_ids_bytes() -> None:
    ids = ["00000000-0000-8000-8000-000000000001", "", "é 🦊"]
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT unnest(?) AS event_id", [ids])
        keys = [row[0] for row in connection.execute(f"SELECT {KEY_SQL} FROM t").fetchall()]
    assert keys == [hashlib.md5(each.encode()).digest() for each in ids]
    assert {len(key) for key in keys} == {KEY_BYTES}


def test_a_landed_file_has_the_columns_of_bronze_but_for_its_partition() -> None:
    assert [*LANDED_FILE.names, BRONZE_PARTITION] == [column.name for column in BRONZE_COLUMNS]
    assert [field.name for field in LANDED_FILE if field.nullable] == ["key", "value"]


def test_no_contract_names_a_column_as_silver_does(contracts: dict[str, Contract]) -> None:
    own = {column.name for column in SILVER_COLUMNS}
    assert [name for contract in contracts.values() for name in contract.columns if name in own] == []
    assert all(len(set(silver_columns(contract))) == len(silver_columns(contract)) for contract in contracts.values())
