"""What the generator's tests share: contracts, scenarios made from normal.yaml, and a way to read records back."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import fastavro
import pytest

from data_generator.model import Model, Send
from data_generator.scenario import Scenario, load_scenario, scenario_path
from data_platform_core.contracts import Contract, load_contracts

NOW_MS = 1_790_000_000_000


@pytest.fixture(scope="session")
def contracts() -> dict[str, Contract]:
    return load_contracts()


@pytest.fixture(scope="session")
def scenario() -> Callable[..., Scenario]:
    """normal.yaml with overrides: `scenario(**{"rate.high": 50})`."""
    return lambda **overrides: load_scenario(scenario_path("normal"), overrides)


@pytest.fixture(scope="session")
def model(contracts: dict[str, Contract], scenario: Callable[..., Scenario]) -> Callable[..., Model]:
    """A model of normal.yaml with overrides."""

    def build(run_id: str = "a-run", producer_id: int = 0, **overrides: Any) -> Model:
        schema_ids = {entity: number for number, entity in enumerate(contracts, start=1)}
        return Model(scenario(**overrides), contracts, schema_ids, run_id, producer_id)

    return build


@pytest.fixture(scope="session")
def decode(contracts: dict[str, Contract]) -> Callable[[str, bytes], dict[str, Any]]:
    """A framed value back to fields, by fastavro, whole bytes consumed; times as plain numbers."""
    parsed = {entity: fastavro.parse_schema(_plain(contract.avro)) for entity, contract in contracts.items()}

    def read(entity: str, value: bytes) -> dict[str, Any]:
        stream = io.BytesIO(value[5:])
        record = fastavro.schemaless_reader(stream, parsed[entity])
        assert not stream.read(), "bytes left over after the record"
        return record  # type: ignore[return-value]

    return read


def _plain(avro: dict[str, Any]) -> dict[str, Any]:
    """The schema without logical types, so that times read back as the numbers that were written."""
    fields = [
        field | {"type": field["type"]["type"]}
        if isinstance(field["type"], dict) and "logicalType" in field["type"]
        else field
        for field in avro["fields"]
    ]
    return avro | {"fields": fields}


@pytest.fixture(scope="session")
def sends(model: Callable[..., Model]) -> Callable[..., list[tuple[str, Send]]]:
    """Catalogue and the first `count` sends of a model, with the entity's name, 10 ms apart."""

    def take(count: int, **options: Any) -> list[tuple[str, Send]]:
        built = model(**options)
        taken = list(built.catalogue(NOW_MS)) + [built.next(NOW_MS + 10 * n) for n in range(1, count + 1)]
        return [(built.lanes[send.lane].entity, send) for send in taken]

    return take
