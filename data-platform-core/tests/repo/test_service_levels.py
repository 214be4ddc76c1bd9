"""The service levels that come with the platform: each can be checked, and each fact in them is another file's."""

from __future__ import annotations

import pytest
import yaml
from service_levels import definition

from data_platform_core.contracts import Contract
from data_platform_core.governance.definitions import Kind, problem
from data_platform_core.governance.lag import _METRIC
from data_platform_core.governance.pipelines import known_pipelines
from data_platform_core.jobs import load_jobs
from data_platform_core.paths import DBT_DIR, REPOSITORY_ROOT
from data_platform_core.warehouse.service_levels import BUSINESS_TIME_ZONE, service_levels

pytestmark = pytest.mark.unit


def test_every_row_can_be_checked(contracts: dict[str, Contract]) -> None:
    pipelines = known_pipelines(load_jobs().values(), (contract.names for contract in contracts.values()))
    rows = [
        definition(each.pipeline, kind=Kind(each.kind), deadline_minutes=each.deadline_minutes, owner=each.owner)
        for each in service_levels(contracts.values())
    ]
    assert len({row.name for row in rows}) == len(rows) == 2 + 2 * len(contracts)
    assert [problem(row, pipelines) for row in rows] == [None] * len(rows)


def test_freshness_is_what_each_contract_says(contracts: dict[str, Contract]) -> None:
    found = {each.pipeline: each for each in service_levels(contracts.values()) if each.origin == "contract"}
    assert {name: (each.deadline_minutes, each.owner) for name, each in found.items()} == {
        contract.names.landing_table: (contract.freshness.error_after_minutes, contract.owner)
        for contract in contracts.values()
    }


def test_days_are_those_of_the_marts() -> None:
    project = yaml.safe_load((DBT_DIR / "dbt_project.yml").read_text(encoding="utf-8"))
    assert project["vars"]["business_timezone"] == BUSINESS_TIME_ZONE


def test_lag_is_a_series_that_the_rules_record() -> None:
    rules = yaml.safe_load((REPOSITORY_ROOT / "home-server-infra/monitoring/rules/recording.yaml").read_text())
    assert _METRIC in {rule["record"] for group in rules["groups"] for rule in group["rules"]}
