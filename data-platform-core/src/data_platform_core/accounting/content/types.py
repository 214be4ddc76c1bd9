"""A contract's Avro types as Arrow reads them from the lake, as DuckDB reads them from PostgreSQL's text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from data_platform_core.contracts import Contract

_ARROW = {
    "string": pa.string(),
    "bytes": pa.binary(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
}
_LOGICAL = {
    "timestamp-millis": pa.timestamp("ms", tz="UTC"),
    "timestamp-micros": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
}
#: DuckDB's type by PostgreSQL's. A sum or a rate has at most six decimals.
_DUCKDB = {
    "text": "VARCHAR",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "real": "FLOAT",
    "double precision": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp with time zone": "TIMESTAMPTZ",
    "timestamp without time zone": "TIMESTAMP",
    "numeric": "DECIMAL(38, 6)",
    "jsonb": "JSON",
}


def arrow_type(avro: Any) -> pa.DataType:
    """The Arrow type of an Avro type, of a union with null that of its other branch.

    Raises ValueError for any other union.
    """
    if isinstance(avro, list):
        (avro,) = [branch for branch in avro if branch != "null"]
    if isinstance(avro, str):
        return _ARROW[avro]
    if avro.get("logicalType") in _LOGICAL:
        return _LOGICAL[avro["logicalType"]]
    return _NESTED[avro["type"]](avro) if avro["type"] in _NESTED else arrow_type(avro["type"])


_NESTED: Mapping[str, Callable[[Any], pa.DataType]] = {
    "array": lambda avro: pa.list_(arrow_type(avro["items"])),
    "map": lambda avro: pa.map_(pa.string(), arrow_type(avro["values"])),
    "record": lambda avro: pa.struct([(field["name"], arrow_type(field["type"])) for field in avro["fields"]]),
    "enum": lambda avro: pa.string(),
}


def contract_types(contract: Contract) -> dict[str, pa.DataType]:
    """Arrow type by column of the contract, in wire order."""
    return {field["name"]: arrow_type(field["type"]) for field in contract.avro["fields"]}


def plain(avro: Any) -> Any:
    """The schema without logical types: times stay the numbers that are on the wire."""
    if isinstance(avro, list):
        return [plain(branch) for branch in avro]
    if isinstance(avro, dict):
        return {key: plain(value) for key, value in avro.items() if key != "logicalType"}
    return avro


def duckdb_type(postgres: str) -> str:
    """DuckDB's type for a type as PostgreSQL's `format_type` prints it."""
    return "DECIMAL(38, 6)" if postgres.startswith("numeric(") else _DUCKDB[postgres]


def duckdb_nested(arrow: pa.DataType) -> str:
    """DuckDB's name of an Arrow type inside a JSON document."""
    if pa.types.is_list(arrow):
        return f"{duckdb_nested(arrow.value_type)}[]"
    if pa.types.is_struct(arrow):
        return "STRUCT(" + ", ".join(f'"{field.name}" {duckdb_nested(field.type)}' for field in arrow) + ")"
    if pa.types.is_map(arrow):
        return f"MAP(VARCHAR, {duckdb_nested(arrow.item_type)})"
    return _SCALARS[str(arrow)]


_SCALARS: Mapping[str, str] = {
    "string": "VARCHAR",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
}
