"""Schema resolution: which writer's data our schema can read."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from data_platform_core.contracts import Contract
from data_platform_core.kafka.resolution import unreadable

pytestmark = pytest.mark.unit


def record(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "R", "namespace": "n", "fields": list(fields)}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def test_a_schema_reads_itself(contracts: dict[str, Contract]) -> None:
    for contract in contracts.values():
        assert unreadable(contract.avro, copy.deepcopy(contract.avro)) is None


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        ("long", "int"),
        ("double", "long"),
        (["null", "string"], "string"),
        (["null", "long"], ["null", "int"]),
        ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}),
        ({"type": "map", "values": "long"}, {"type": "map", "values": "int"}),
        (record(field("a", "int")), record(field("a", "int"), field("b", "string"))),
        (record(field("a", "int"), field("b", "string", default="")), record(field("a", "int"))),
        (record(field("a", "int", aliases=["old"])), record(field("old", "int"))),
        (
            {"type": "enum", "name": "E", "symbols": ["A", "B"]},
            {"type": "enum", "name": "E", "symbols": ["A"]},
        ),
        (
            {"type": "enum", "name": "E", "symbols": ["A"], "default": "A"},
            {"type": "enum", "name": "E", "symbols": ["A", "B"]},
        ),
        ({"type": "long", "logicalType": "timestamp-millis"}, "long"),
    ],
)
def test_what_avro_resolves_is_readable(reader: Any, writer: Any) -> None:
    assert unreadable(reader, writer) is None


@pytest.mark.parametrize(
    ("reader", "writer", "why"),
    [
        ("int", "long", "int not compatible with writer type: long"),
        ("string", ["null", "string"], "string not compatible with writer type: null"),
        (["null", "int"], "string", "reader union lacking writer type string"),
        (record(field("a", "int"), field("b", "int")), record(field("a", "int")), "field b is not written"),
        (
            record(field("a", "int")),
            record(field("a", "string")),
            "field a: type mismatch (reader type: int",
        ),
        (
            record(field("a", {"type": "array", "items": "int"})),
            record(field("a", {"type": "array", "items": "long"})),
            "field a: type mismatch at /items",
        ),
        (
            record(field("e", {"type": "enum", "name": "E", "symbols": ["A"]})),
            record(field("e", {"type": "enum", "name": "E", "symbols": ["A", "B"]})),
            "field e: missing enum symbols at /symbols ({'B'})",
        ),
        (
            record(field("f", {"type": "fixed", "name": "F", "size": 2})),
            record(field("f", {"type": "fixed", "name": "F", "size": 4})),
            "field f: fixed size mismatch at /size (expected: 4, found: 2)",
        ),
    ],
)
def test_what_it_does_not_is_named(reader: Any, writer: Any, why: str) -> None:
    assert why in str(unreadable(reader, writer))


def test_a_recursive_schema_comes_to_an_end() -> None:
    tree = record(field("left", ["null", "n.R"], default=None))
    assert unreadable(tree, copy.deepcopy(tree)) is None


def test_a_named_type_is_found_where_it_is_used_again() -> None:
    def pair(inner: str) -> dict[str, Any]:
        point = {"type": "record", "name": "Point", "fields": [field("x", inner)]}
        return record(field("a", point), field("b", "Point"))

    assert unreadable(pair("long"), pair("int")) is None
    assert "field a: type mismatch at /fields/0/type" in str(unreadable(pair("long"), pair("string")))


def test_a_field_that_may_be_null_is_named() -> None:
    why = unreadable(record(field("a", "long")), record(field("a", ["null", "long"])))
    assert str(why).startswith("field a: type mismatch")


def test_a_schema_of_another_name_is_another_record() -> None:
    assert "the record: name mismatch" in str(unreadable(record(), record() | {"name": "S"}))


@pytest.mark.parametrize("writer", ["no_type", {"type": "record", "name": "R"}, record(field("a", "n.Unknown"))])
def test_an_invalid_schema_is_reported_in_one_line(writer: Any) -> None:
    why = str(unreadable(record(), writer))
    assert why.startswith("Avro does not accept the schema")
    assert "\n" not in why
