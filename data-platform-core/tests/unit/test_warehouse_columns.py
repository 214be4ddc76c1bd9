"""A contract's Avro fields become exact PostgreSQL columns, or are refused by name."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError
from data_platform_core.warehouse.columns import contract_columns, landing_columns, postgres_type

pytestmark = pytest.mark.unit


def with_field(contract: Contract, field: dict[str, Any]) -> Contract:
    avro = copy.deepcopy(contract.avro)
    avro["fields"].append(field)
    return Contract.model_validate(contract.model_dump() | {"avro": avro})


@pytest.mark.parametrize(
    ("avro", "expected"),
    [
        ("string", ("text", False)),
        ("int", ("integer", False)),
        ("long", ("bigint", False)),
        ("boolean", ("boolean", False)),
        ("double", ("double precision", False)),
        (["null", "long"], ("bigint", True)),
        ({"type": "long", "logicalType": "timestamp-millis"}, ("timestamp with time zone", False)),
        (["null", {"type": "int", "logicalType": "date"}], ("date", True)),
        ({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}, ("numeric(12,2)", False)),
        ({"type": "enum", "name": "Grade", "symbols": ["a"]}, ("text", False)),
        ({"type": "array", "items": "string"}, ("jsonb", False)),
        ({"type": "string"}, ("text", False)),
    ],
)
def test_each_avro_type_has_its_exact_postgres_type(avro: Any, expected: tuple[str, bool]) -> None:
    assert postgres_type(avro) == expected


@pytest.mark.parametrize(
    "avro", ["bytes", ["null", "string", "long"], {"type": "int", "logicalType": "time-millis"}, "Unknown"]
)
def test_a_type_without_an_exact_place_is_refused_naming_contract_and_field(
    contracts: dict[str, Contract], avro: Any
) -> None:
    trial = with_field(contracts["orders"], {"name": "odd", "type": avro, "doc": "Odd."})
    with pytest.raises(ConfigurationError, match="contract orders: field odd has") as refused:
        contract_columns(trial)
    assert "\n" not in str(refused.value)


def test_columns_with_personal_data_say_so(contracts: dict[str, Contract]) -> None:
    for contract in contracts.values():
        marked = {column.name for column in landing_columns(contract) if column.comment.startswith("PII. ")}
        assert marked == set(contract.pii)
