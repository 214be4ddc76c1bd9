"""Columns of a landing table: PostgreSQL types derived from a contract's Avro fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError
from data_platform_core.wire import columns
from data_platform_core.wire.columns import ColumnType

_PRIMITIVES: Final = {
    "string": "text",
    "int": "integer",
    "long": "bigint",
    "float": "real",
    "double": "double precision",
    "boolean": "boolean",
}
_LOGICAL: Final = {
    ("long", "timestamp-millis"): "timestamp with time zone",
    ("long", "timestamp-micros"): "timestamp with time zone",
    ("int", "date"): "date",
}
_LAKE: Final = {
    ColumnType.STRING: "text",
    ColumnType.INT: "integer",
    ColumnType.LONG: "bigint",
    ColumnType.BOOLEAN: "boolean",
    ColumnType.TIMESTAMP: "timestamp with time zone",
    ColumnType.DATE: "date",
}


@dataclass(frozen=True)
class Column:
    """A column of a landing table. `sql_type` is in the format of PostgreSQL's `format_type`."""

    name: str
    sql_type: str
    nullable: bool
    doc: str
    pii: bool = False

    @property
    def comment(self) -> str:
        """Comment on the column; starts with `PII` if the contract marks it so."""
        return f"PII. {self.doc}" if self.pii else self.doc


#: What silver adds to the contract's columns.
SILVER_COLUMNS: Final = tuple(
    Column(column.name, _LAKE[column.type], False, column.doc) for column in columns.SILVER_COLUMNS
)
#: What the batch load adds.
LOAD_COLUMNS: Final = (
    Column(
        "load_id", "bigint", False, "The load that brought the row; refers to platform.loads; rises in commit order."
    ),
    Column("loaded_at", "timestamp with time zone", False, "When that load was committed, UTC."),
)


def postgres_type(avro_type: Any) -> tuple[str, bool]:
    """PostgreSQL type and nullability of an Avro type of `schema.avsc`.

    Raises ValueError for a type without an exact PostgreSQL type.
    """
    if isinstance(avro_type, list):
        branches = [branch for branch in avro_type if branch != "null"]
        if len(branches) != 1:
            raise ValueError(f"a union of {len(branches)} types")
        return postgres_type(branches[0])[0], len(branches) < len(avro_type)
    if isinstance(avro_type, str):
        if avro_type in _PRIMITIVES:
            return _PRIMITIVES[avro_type], False
        raise ValueError(f"type {avro_type!r}")
    kind, logical = avro_type["type"], avro_type.get("logicalType")
    if logical is None:
        return _complex_type(kind), False
    if logical == "decimal":
        return f"numeric({avro_type['precision']},{avro_type.get('scale', 0)})", False
    if (kind, logical) in _LOGICAL:
        return _LOGICAL[kind, logical], False
    raise ValueError(f"logical type {logical!r} of {kind!r}")


def _complex_type(kind: Any) -> str:
    if kind in ("array", "map", "record"):
        return "jsonb"
    if kind == "enum":
        return "text"
    return postgres_type(kind)[0]


def contract_columns(contract: Contract) -> tuple[Column, ...]:
    """The contract's columns in wire order. Raises ConfigurationError naming the field that can't be stored."""
    found = []
    for field in contract.avro["fields"]:
        try:
            sql_type, nullable = postgres_type(field["type"])
        except ValueError as error:
            raise ConfigurationError(
                f"contract {contract.entity}: field {field['name']} has {error}, which the warehouse can't store; use "
                f"one of {', '.join(sorted(_PRIMITIVES))}, enum, array, map, record, decimal, date, timestamp-millis"
            ) from None
        found.append(Column(field["name"], sql_type, nullable, field["doc"], field["name"] in contract.pii))
    return tuple(found)


def silver_columns(contract: Contract) -> tuple[Column, ...]:
    """The columns that a load copies: the contract's, then silver's."""
    return contract_columns(contract) + SILVER_COLUMNS


def landing_columns(contract: Contract) -> tuple[Column, ...]:
    """Every column of `raw_crm.<entity>`, in order."""
    return silver_columns(contract) + LOAD_COLUMNS
