"""dbt's sources come from the contracts, and each entity has its staging model."""

from __future__ import annotations

import re

import pytest
import yaml

from data_platform_core.contracts import Contract
from data_platform_core.generated.dbt_sources import SOURCES_FILE, sources_text
from data_platform_core.paths import DBT_DIR
from data_platform_core.warehouse.columns import landing_columns

pytestmark = pytest.mark.unit


def test_the_committed_sources_are_those_of_the_contracts(contracts: dict[str, Contract]) -> None:
    assert SOURCES_FILE.read_text(encoding="utf-8") == sources_text(contracts), "run `make generate`"


def test_sources_hold_every_column_with_its_doc_and_what_is_allowed_in_it(contracts: dict[str, Contract]) -> None:
    text = sources_text(contracts)
    assert text.startswith("# GENERATED from ")
    (source,) = yaml.safe_load(text)["sources"]
    assert [table["name"] for table in source["tables"]] == sorted(contracts)
    for table in source["tables"]:
        contract = contracts[table["name"]]
        columns = {column["name"]: column for column in table["columns"]}
        assert list(columns) == [column.name for column in landing_columns(contract)]
        assert {name for name, column in columns.items() if "config" in column} == set(contract.pii)
        for name, values in contract.accepted_values.items():
            (test,) = columns[name]["data_tests"]
            assert test["accepted_values"]["arguments"]["values"] == list(values)
        assert table["config"]["freshness"]["error_after"]["count"] == contract.freshness.error_after_minutes
        assert table["config"]["loaded_at_query"].endswith(f"from platform.loads where entity = '{contract.entity}'")


def read_columns(model: str) -> set[str]:
    """Columns of the source that a staging model selects, regardless of their aliases."""
    selected = re.search(r"renamed as \(\s*select\n(.*?)\n\s*from source\n", model, re.DOTALL)
    assert selected, "a staging model selects its columns one a line in `renamed`"
    lines = (re.sub(r"--.*", "", line).strip() for line in selected[1].splitlines())
    return {re.split(r"[ ,]", line)[0] for line in lines if line}


def test_every_contract_has_its_staging_model(contracts: dict[str, Contract]) -> None:
    for contract in contracts.values():
        model = DBT_DIR / "models" / "staging" / f"{contract.names.staging_model}.sql"
        assert model.is_file(), f"hop staging: {model.name} is missing for entity {contract.entity}"
        text = model.read_text(encoding="utf-8")
        assert f"source('crm', '{contract.entity}')" in text
        missing = set(contract.columns) - read_columns(text)
        assert not missing, f"{model.name} leaves out {sorted(missing)}"


def test_every_model_is_described() -> None:
    described = {
        model["name"]
        for file in DBT_DIR.glob("models/**/*.yml")
        for model in yaml.safe_load(file.read_text(encoding="utf-8")).get("models", [])
    }
    assert described == {file.stem for file in DBT_DIR.glob("models/**/*.sql")}


def test_the_project_holds_no_python_package() -> None:
    assert not list(DBT_DIR.glob("**/__init__.py"))
