"""Rules of the dbt project: names and layers of models, a test for each model, a description for each column."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_platform_core.accounting.content.copies import Mart, Read, scopes
from data_platform_core.accounting.content.engine import Engine, comparing, quoted
from data_platform_core.accounting.content.types import contract_types, duckdb_nested, duckdb_type
from data_platform_core.accounting.content.warehouse import define
from data_platform_core.contracts import Contract
from data_platform_core.paths import DBT_DIR, REPOSITORY_ROOT
from data_platform_core.warehouse.columns import landing_columns

pytestmark = pytest.mark.unit

MODELS = {path.stem: path for path in (DBT_DIR / "models").glob("**/*.sql")}
DESCRIBED: Mapping[str, Mapping[str, Any]] = {
    model["name"]: model
    for file in (DBT_DIR / "models").glob("**/*.yml")
    for model in yaml.safe_load(file.read_text(encoding="utf-8")).get("models", [])
}
#: What a model of each folder is called, and which models it may read. None reads a landing table but staging.
NAMES = {"staging": r"stg_crm__\w+", "intermediate": r"int_\w+", "marts": r"(fct|dim|mart)_\w+"}
READS = {"staging": (), "intermediate": ("stg", "int", "fct", "dim"), "marts": ("stg", "int", "fct", "dim")}
DASHBOARDS = REPOSITORY_ROOT / "home-server-infra" / "monitoring" / "dashboards"

each_model = pytest.mark.parametrize("model", sorted(MODELS))


def references(model: str) -> list[str]:
    return re.findall(r"ref\('(\w+)'\)", MODELS[model].read_text(encoding="utf-8"))


@each_model
def test_a_models_name_says_its_layer(model: str) -> None:
    assert re.fullmatch(NAMES[MODELS[model].parent.name], model)


@each_model
def test_a_model_reads_the_layers_below_it(model: str) -> None:
    layer = MODELS[model].parent.name
    above = {read for read in references(model) if read.split("_")[0] not in READS[layer]}
    assert above == set(), f"{model} of layer {layer} reads {sorted(above)}"
    assert ("source(" in MODELS[model].read_text(encoding="utf-8")) == (layer == "staging")


def test_no_two_models_read_each_other() -> None:
    """dbt refuses a circle only when it runs."""
    left = {model: set(references(model)) for model in MODELS}
    while ready := [model for model, reads in left.items() if not reads & set(left)]:
        left = {model: reads for model, reads in left.items() if model not in ready}
    assert left == {}


def test_an_intermediate_model_is_read_more_than_once() -> None:
    used = [read for model in MODELS for read in references(model)]
    once = [model for model in MODELS if model.startswith("int_") and used.count(model) < 2]
    assert once == [], f"{once}: move what only one mart needs into that mart"


@each_model
def test_a_model_is_described_and_its_key_is_tested(model: str) -> None:
    described = DESCRIBED[model]
    assert described["description"].strip()
    tested = [column["name"] for column in described["columns"] if "not_null" in column.get("data_tests", [])]
    assert tested, f"no column of {model} has the test not_null"


@each_model
def test_a_column_is_described_once(model: str) -> None:
    columns = DESCRIBED[model]["columns"]
    names = [column["name"] for column in columns]
    assert len(names) == len(set(names))
    assert [column["name"] for column in columns if not column.get("description", "").strip()] == []


@pytest.fixture(scope="module")
def engine(contracts: dict[str, Contract]) -> Iterator[Engine]:
    """Empty landing tables, and what recomputations use."""
    with comparing(memory_mb=256) as one:
        define(one, "UTC")
        one.sql.execute("CREATE TABLE days (day DATE)")
        for entity, contract in contracts.items():
            kinds = contract_types(contract)
            columns = ", ".join(
                f"{quoted(column.name)} "
                + (duckdb_nested(kinds[column.name]) if column.sql_type == "jsonb" else duckdb_type(column.sql_type))
                for column in landing_columns(contract)
            )
            one.sql.execute(f"CREATE TABLE {quoted(entity)} ({columns})")
        yield one


def recompute(engine: Engine, entity: str, mart: Mart) -> None:
    views = (Read("landing", entity, ""), Read("of_run", entity, ""), *mart.reads)
    for view in views:
        engine.sql.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(view.name)} AS FROM {quoted(view.entity)}")
    engine.sql.execute(f"CREATE OR REPLACE TABLE recomputed AS {mart.query}")


@pytest.mark.parametrize(
    ("entity", "mart"), [(entity, mart) for entity, scope in scopes().items() for mart in scope.marts], ids=str
)
def test_every_column_of_a_mart_is_described(engine: Engine, entity: str, mart: Mart) -> None:
    """A mart has the columns of its recomputation, which A8 makes sure of."""
    recompute(engine, entity, mart)
    columns = {name for (name,) in engine.query("SELECT column_name FROM (DESCRIBE recomputed)")}
    assert {column["name"] for column in DESCRIBED[mart.name]["columns"]} == columns


@pytest.mark.parametrize(
    ("entity", "mart"), [(entity, mart) for entity, scope in scopes().items() for mart in scope.marts], ids=str
)
def test_a_mart_of_no_row_is_recomputed_as_empty(engine: Engine, entity: str, mart: Mart) -> None:
    recompute(engine, entity, mart)
    assert engine.count("recomputed") == 0


def test_exposures_are_what_the_dashboards_read() -> None:
    exposed = yaml.safe_load((DBT_DIR / "models" / "exposures.yml").read_text(encoding="utf-8"))["exposures"]
    declared = {one["label"]: {re.findall(r"'(\w+)'", ref)[0] for ref in one["depends_on"]} for one in exposed}
    assert declared == dict(filter(lambda found: found[1], map(read_marts, DASHBOARDS.glob("*.json"))))
    assert set().union(*declared.values()) <= set(MODELS)


def read_marts(dashboard: Path) -> tuple[str, set[str]]:
    text = dashboard.read_text(encoding="utf-8")
    (title,) = re.findall(r'^  "title": "(.*)"', text, re.MULTILINE)
    return title, set(re.findall(r"\bmarts\.(\w+)", text))


def test_every_test_of_the_project_is_of_a_model() -> None:
    for test in (DBT_DIR / "tests").glob("*.sql"):
        assert set(re.findall(r"ref\(['\"](\w+)['\"]\)", test.read_text(encoding="utf-8"))) <= set(MODELS), test.name
