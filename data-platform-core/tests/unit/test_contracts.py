"""Contracts: the real ones are valid, and each way to break one is reported in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_platform_core.contracts import ENVELOPE, Contract, entities, load_contract, load_contracts
from data_platform_core.errors import ConfigurationError
from data_platform_core.paths import CONTRACTS_DIR

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CONTRACTS_DIR / "orders", tmp_path / "orders")
    return tmp_path


def change_yaml(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "orders" / "contract.yaml"
    raw = yaml.safe_load(path.read_text())
    change(raw)
    path.write_text(yaml.safe_dump(raw))


def change_schema(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "orders" / "schema.avsc"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def refusal(folder: Path, entity: str = "orders") -> str:
    with pytest.raises(ConfigurationError) as refused:
        load_contract(entity, folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_four_entities_have_contracts() -> None:
    assert list(load_contracts()) == ["events", "orders", "products", "profiles"]


@pytest.mark.parametrize("entity", entities())
def test_every_record_starts_with_the_envelope(entity: str, contracts: dict[str, Contract]) -> None:
    assert contracts[entity].columns[: len(ENVELOPE)] == ENVELOPE


def test_accepted_values_are_the_documented_ones(contracts: dict[str, Contract]) -> None:
    assert set(contracts["events"].accepted_values["event_type"]) == {
        "page_view", "search", "impression", "click", "add_to_cart", "checkout", "purchase", "review",
    }  # fmt: skip
    assert set(contracts["orders"].accepted_values["order_status"]) == {"placed", "paid", "cancelled", "refunded"}


def test_personal_data_is_marked(contracts: dict[str, Contract]) -> None:
    assert "email" in contracts["profiles"].pii
    assert {"card_fingerprint", "ip"} <= set(contracts["orders"].pii)


def test_the_wire_schema_reaches_the_registry_unchanged(contracts: dict[str, Contract]) -> None:
    on_disk = json.loads((CONTRACTS_DIR / "orders" / "schema.avsc").read_text())
    assert json.loads(contracts["orders"].avro_json) == on_disk


def test_an_entity_without_a_folder_is_answered_with_the_known_ones(folder: Path) -> None:
    assert "known: orders" in refusal(folder, "invoices")


def test_an_empty_contracts_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no entity"):
        load_contracts(tmp_path)


@pytest.mark.parametrize("name", ["schema.avsc", "contract.yaml"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / "orders" / name).unlink()
    assert name in refusal(folder)


@pytest.mark.parametrize(("name", "text"), [("schema.avsc", "{"), ("contract.yaml", "a: [")])
def test_a_file_that_does_not_parse_is_named(folder: Path, name: str, text: str) -> None:
    (folder / "orders" / name).write_text(text)
    assert name in refusal(folder)


def test_a_schema_that_is_no_record_is_refused(folder: Path) -> None:
    (folder / "orders" / "schema.avsc").write_text('"string"')
    assert "must be an Avro record" in refusal(folder)


def test_an_unknown_key_is_named(folder: Path) -> None:
    change_yaml(folder, lambda raw: raw["topic"].update(partitons=3))
    assert "topic.partitons" in refusal(folder)


def test_a_topic_without_partitions_is_refused(folder: Path) -> None:
    change_yaml(folder, lambda raw: raw["topic"].update(partitions=0))
    assert "topic.partitions" in refusal(folder)


def test_a_folder_and_its_contract_must_agree_on_the_name(folder: Path) -> None:
    change_yaml(folder, lambda raw: raw.update(entity="order"))
    assert "'order'" in refusal(folder)


def test_a_schema_without_the_envelope_is_refused(folder: Path) -> None:
    change_schema(folder, lambda raw: raw["fields"].pop(0))
    assert "must start with event_id" in refusal(folder)


def test_a_field_without_a_description_is_named(folder: Path) -> None:
    change_schema(folder, lambda raw: raw["fields"][-1].pop("doc"))
    assert "field ip has no doc" in refusal(folder)


@pytest.mark.parametrize(
    ("role", "value"),
    [
        ("key", "order_nr"),
        ("event_time", "order_nr"),
        ("pii", ["order_nr"]),
        ("accepted_values", {"order_nr": ["1"]}),
        ("relationships", {"order_nr": "orders.order_id"}),
    ],
)
def test_a_column_that_the_schema_lacks_is_named(folder: Path, role: str, value: object) -> None:
    change_yaml(folder, lambda raw: raw.update({role: value}))
    assert f"{role} names order_nr" in refusal(folder)


@pytest.mark.parametrize("entity", entities())
def test_every_text_field_has_a_bound_or_accepted_values(entity: str, contracts: dict[str, Contract]) -> None:
    contract = contracts[entity]
    texts = {field["name"] for field in contract.avro["fields"] if "string" in str(field["type"])}
    assert texts == {*contract.max_lengths, *contract.accepted_values}


def test_a_field_may_have_a_bound_of_its_own(contracts: dict[str, Contract]) -> None:
    assert contracts["profiles"].max_lengths["email"] == 320
    assert contracts["profiles"].max_lengths["run_id"] == contracts["profiles"].max_length.default


def test_a_bound_of_an_unknown_field_is_refused(folder: Path) -> None:
    change_yaml(folder, lambda raw: raw["max_length"].update(nickname=5))
    assert "max_length names nickname, not in schema.avsc" in refusal(folder)
