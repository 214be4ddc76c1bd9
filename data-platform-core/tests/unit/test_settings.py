"""Settings: topology below environment, secrets that do not print, unknown variables refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from data_platform_core.errors import ConfigurationError
from data_platform_core.settings import IngestSettings, known_variables, load_settings
from data_platform_core.topology import load_topology

pytestmark = pytest.mark.unit

SECRET = "s3cr3t-of-the-test"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CRM_")]:
        monkeypatch.delenv(name)


def test_without_an_environment_variable_the_topology_decides() -> None:
    settings = load_settings("streaming", "test")
    assert settings.environment == "test"
    assert settings.kafka.bootstrap_servers == load_topology("test").kafka.bootstrap_servers


def test_crm_environment_chooses_the_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_ENVIRONMENT", "test")
    assert load_settings("admin").postgres.port == load_topology("test").postgres.port


def test_a_variable_overrides_one_key_and_leaves_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_OBJECT_STORE__URL", "http://store.example:9000")
    store = load_settings("batch", "local").object_store
    assert store.url == "http://store.example:9000"
    assert store.lake_bucket == load_topology("local").object_store.buckets.lake


def test_an_unknown_variable_stops_with_its_name_and_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_OBJECT_STORE__SECRET_KEI", SECRET)
    with pytest.raises(ConfigurationError, match="CRM_OBJECT_STORE__SECRET_KEI") as refused:
        load_settings("batch", "local")
    assert "CRM_OBJECT_STORE__SECRET_KEY" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_an_impossible_value_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_POSTGRES__PORT", "a lot")
    with pytest.raises(ConfigurationError, match="setting CRM_POSTGRES__PORT"):
        load_settings("batch", "local")


def test_more_executors_at_least_than_at_most_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_SPARK__EXECUTORS_MIN", "3")
    monkeypatch.setenv("CRM_SPARK__EXECUTORS_MAX", "2")
    with pytest.raises(ConfigurationError, match="executors_max is 2, below executors_min 3"):
        load_settings("streaming", "local")


def test_a_process_has_its_own_metrics_endpoint_and_no_other() -> None:
    metrics = load_topology("test").metrics
    for service, endpoint in (("streaming", metrics.streaming), ("generator", metrics.generator)):
        found = load_settings(service, "test").metrics
        assert (found.host, found.port) == (endpoint.bind, endpoint.port)
    assert load_settings("batch", "test").metrics.port == 0, "a batch job serves none"


def test_a_process_listens_where_it_is_bound_and_others_connect_to_its_host() -> None:
    streaming = load_topology("home").metrics.streaming
    assert load_settings("streaming", "home").metrics.host == streaming.bind == "0.0.0.0"
    assert streaming.address == "streaming.crm.svc:9411"


def test_a_setting_of_the_time_before_purposes_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_STREAMING__DRIVER_MEMORY_MB", "4096")
    with pytest.raises(ConfigurationError, match=r"CRM_STREAMING__DRIVER_MEMORY_MB is not .* CRM_SPARK__DRIVER_MEM"):
        load_settings("batch", "local")


def test_secrets_print_as_stars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_OBJECT_STORE__SECRET_KEY", SECRET)
    monkeypatch.setenv("CRM_POSTGRES__PASSWORD", SECRET)
    settings = load_settings("batch", "local")
    assert settings.postgres.password.get_secret_value() == SECRET
    assert SECRET not in f"{settings} {settings!r} {settings.model_dump_json()}"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_settings("batch", "local").postgres.port = 1


def leaves(values: dict[str, Any], prefix: str) -> Iterator[str]:
    """Names of the values that are not groups; an empty mapping is a value."""
    for name, value in values.items():
        path = f"{prefix}{name.upper()}"
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}__")
        else:
            yield path


def test_the_known_variables_are_the_two_folders_and_every_setting_that_is_resolved() -> None:
    assert known_variables() - {"CRM_HOME", "CRM_STATE"} == set(
        leaves(load_settings("streaming", "test").model_dump(), "CRM_")
    )


def test_lake_addresses_are_for_spark() -> None:
    assert load_settings("streaming", "local").object_store.lake_uri("silver/orders").endswith("/silver/orders")


@pytest.mark.parametrize(
    ("pace", "contract_ms", "trigger_ms"),
    [("contract", 0, 1_000), ("contract", 15_000, 15_000), ("economy", 0, 5_000), ("economy", 15_000, 30_000)],
)
def test_the_pace_says_how_often_a_query_runs(pace: str, contract_ms: int, trigger_ms: int) -> None:
    ingest = IngestSettings.model_validate({"pace": pace})
    assert ingest.query_trigger_ms(contract_ms) == trigger_ms


def test_only_queries_that_may_run_back_to_back_have_the_least_time_between_batches() -> None:
    ingest = IngestSettings.model_validate({"trigger_ms": 250})
    assert ingest.query_trigger_ms(0) == 250
    assert ingest.query_trigger_ms(5_000) == 5_000
