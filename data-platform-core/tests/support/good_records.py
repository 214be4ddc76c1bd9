"""Good records to make extreme: what the generator sends."""

from __future__ import annotations

import io
import random
from typing import Any

import fastavro
from oracle import Record

from data_generator.model import NONE, Model
from data_generator.scenario import load_scenario, scenario_path
from data_platform_core.contracts import Contract

_SENDS = 3_000


def good_records(contracts: dict[str, Contract], now_ms: int, run_id: str, each: int = 12) -> dict[str, list[Record]]:
    """By entity some of the generator's records, as different in their accepted values as they come."""
    model = Model(load_scenario(scenario_path("normal"), {}), contracts, dict.fromkeys(contracts, 0), run_id, 0)
    schemas = {entity: fastavro.parse_schema(_plain(contract.avro)) for entity, contract in contracts.items()}
    found: dict[str, dict[tuple[Any, ...], Record]] = {entity: {} for entity in contracts}
    sends = [*model.catalogue(now_ms), *(model.next(now_ms) for _ in range(_SENDS))]
    random.Random(0).shuffle(sends)
    for send in sends:
        entity = model.lanes[send.lane].entity
        if send.injected != NONE:
            continue
        record = fastavro.schemaless_reader(io.BytesIO(send.value[5:]), schemas[entity])
        kind = tuple(record[name] for name in contracts[entity].accepted_values)
        found[entity].setdefault(kind, record | {contracts[entity].event_time: now_ms, "produced_ts": now_ms})
    return {entity: list(records.values())[:each] for entity, records in found.items()}


def _plain(avro: dict[str, Any]) -> dict[str, Any]:
    """The schema without logical types: times and days stay numbers."""
    fields = [
        field | {"type": field["type"]["type"]}
        if isinstance(field["type"], dict) and "logicalType" in field["type"]
        else field
        for field in avro["fields"]
    ]
    return avro | {"fields": fields}
