"""The matrix of accounts: what it refuses, and what each system derives from an entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from data_platform_core.access import kafka, object_store, postgres
from data_platform_core.access.matrix import SERVICES_FILE, Matrix, TablePrivilege, load_matrix
from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError
from data_platform_core.settings import load_settings
from data_platform_core.topology import Buckets

pytestmark = pytest.mark.unit

BUCKETS = Buckets(lake="lake", ledger="evidence")
OWNER: dict[str, Any] = {"admin": {"postgres": {"owner": True}}}


def matrix(**services: Any) -> Matrix:
    return Matrix.model_validate({"services": OWNER | services})


def refusal(tmp_path: Path, document: Any) -> str:
    path = tmp_path / "services.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    with pytest.raises(ConfigurationError) as refused:
        load_matrix(path)
    (line,) = refused.value.lines
    assert str(path) in line
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("services", "told"),
    [
        ({"api": {"kafak": {}}}, "services.api.kafak: Extra inputs are not permitted"),
        ({"api": {"kafka": {"topic": ["read"]}}}, "services.api.kafka.topic: Extra inputs"),
        ({"api": {"kafka": {"topics": ["reed"]}}}, "services.api.kafka.topics.0"),
        ({"api": {"object_store": {"lake": ["list"]}}}, "services.api.object_store.lake.0"),
        ({"api": {"postgres": {"creates_in": ["public"]}}}, "services.api.postgres.creates_in.0"),
        ({"api": {"postgres": {"marts": ["insert"]}}}, "select is all that may be granted"),
        ({"api": {"postgres": {"owner": True}}}, "exactly one service must have postgres.owner, found: admin, api"),
        ({"admin": {}}, "exactly one service must have postgres.owner, found: none"),
        ({"api": {"kafka": {"super_user": True, "topics": ["read"]}}}, "a super user is bound by no rule"),
        ({"admin": {"postgres": {"owner": True, "marts": ["select"]}}}, "the owner has every privilege"),
        ({"api": {"redis": {"keys": "*"}}}, "services.api.redis.keys: Extra inputs"),
        ({"Api": {}}, "services.Api"),
        ({"my-api": {}}, "services.my-api"),
        ({"stack": {}}, "services.stack: the name belongs to an account of a server's own"),
    ],
)
def test_an_impossible_entry_is_refused_with_its_key(services: dict[str, Any], told: str, tmp_path: Path) -> None:
    assert told in refusal(tmp_path, {"services": OWNER | services})


@pytest.mark.parametrize("document", ["", "services: {", "services: {}", "[]", {"services": None}])
def test_a_file_that_is_no_matrix_is_refused(document: Any, tmp_path: Path) -> None:
    assert "matrix of accounts" in refusal(tmp_path, document)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.yaml can't be read"):
        load_matrix(tmp_path / "none.yaml")


def test_settings_of_a_service_that_the_matrix_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"service 'api' is not in the matrix of accounts; add it") as refused:
        load_settings("api", "test")
    assert f"known: {', '.join(sorted(load_matrix().services))}" in str(refused.value)


def test_the_committed_matrix_is_read() -> None:
    assert load_matrix() is load_matrix(SERVICES_FILE)


def test_each_resource_of_kafka_becomes_rules_of_every_entity(contracts: dict[str, Contract]) -> None:
    entry = {
        "topics": ["read"],
        "dead_letters": ["write"],
        "query_groups": ["describe"],
        "reader_group": ["read"],
        "lag_group": ["read"],
        "spark_groups": ["read"],
        "cluster": ["describe"],
        "all_topics": ["describe"],
        "all_groups": ["describe"],
    }
    orders = [contracts["orders"]]
    assert {str(rule) for rule in kafka.wanted_rules(matrix(api={"kafka": entry}), orders)} == {
        "api may read topic crm.orders.v1",
        "api may write topic crm.orders.v1.dlq",
        "api may describe group ingest_orders",
        "api may read group crm-reader",
        "api may read group crm-lag",
        "api may read group spark-kafka-*",
        "api may describe cluster kafka-cluster",
        "api may describe topic *",
        "api may describe group *",
    }


def statements(entry: dict[str, Any]) -> dict[str, set[str]]:
    """Actions by resource."""
    (document,) = object_store.policies(matrix(api={"object_store": entry}), BUCKETS).values()
    return {
        resource.removeprefix("arn:aws:s3:::"): set(statement["Action"])
        for statement in document["Statement"]
        for resource in statement["Resource"]
    }


def test_a_bucket_is_listed_by_who_may_do_something_in_it() -> None:
    found = statements({"ledger": ["read"]})
    assert set(found) == {"evidence", "evidence/*"}
    assert "s3:ListBucket" in found["evidence"]
    assert found["evidence/*"] == {"s3:GetObject", "s3:GetObjectVersion"}


def test_the_landing_folder_is_written_without_listing_the_lake() -> None:
    found = statements({"landing": ["write"]})
    assert set(found) == {"lake/landing/*"}
    assert "s3:PutObject" in found["lake/landing/*"]


def test_an_empty_entry_is_an_account_that_may_do_nothing() -> None:
    assert statements({}) == {}
    (grants,) = postgres.grants(matrix(api={"postgres": {}}))
    given = (*grants.schemas.values(), grants.landing, *grants.tables.values(), grants.load_numbers, grants.database)
    assert set(given) == {""}


def test_the_usage_of_a_schema_follows_from_its_tables() -> None:
    entry = {"landing": ["select"], "loads": ["select", "insert"], "marts": ["select"], "creates_in": ["staging"]}
    (grants,) = postgres.grants(matrix(api={"postgres": entry}))
    assert grants.role == "crm_api"
    assert grants.schemas == {
        "raw_crm": "USAGE",
        "platform": "USAGE",
        "loading": "",
        "staging": "USAGE, CREATE",
        "marts": "USAGE",
        "ops": "",
        "errors": "",
    }
    assert grants.tables["platform.loads"] == "SELECT, INSERT"
    assert (grants.landing, grants.load_numbers) == ("SELECT", "USAGE")


def test_a_table_of_ops_is_granted_alone_with_the_usage_of_its_schema() -> None:
    (grants,) = postgres.grants(matrix(api={"postgres": {"completions": ["select", "insert"]}}))
    assert {name: granted for name, granted in grants.tables.items() if granted} == {
        "ops.pipeline_completion_log": "SELECT, INSERT"
    }
    assert {name: granted for name, granted in grants.schemas.items() if granted} == {"ops": "USAGE"}


def test_no_service_changes_what_was_promised_but_the_owner() -> None:
    """Least privilege of the committed matrix: dead letters have PII and no job yet, definitions are a person's."""
    access = load_matrix().postgres
    assert {name for name, entry in access.items() if set(entry.sla_definitions) - {TablePrivilege.SELECT}} == set()
    assert {name for name, entry in access.items() if entry.sla_violations} == {"sla", "reader"}
    assert {name for name, entry in access.items() if TablePrivilege.INSERT in entry.sla_violations} == {"sla"}
    assert {name for name, entry in access.items() if entry.dlq_errors or entry.retry_history} == set()
    assert {name for name, entry in access.items() if TablePrivilege.DELETE in entry.completions} == set()


def test_who_only_reads_loads_draws_no_number() -> None:
    (grants,) = postgres.grants(matrix(api={"postgres": {"loads": ["select"]}}))
    assert grants.load_numbers == ""


def test_the_owner_is_granted_nothing_and_logs_in() -> None:
    assert postgres.grants(matrix()) == ()
    assert postgres.roles(matrix()) == ("crm_admin",)
    assert postgres.owner(matrix()) == "admin"


def test_readers_of_marts_and_of_figures_are_those_with_the_entry() -> None:
    found = matrix(api={"postgres": {"marts": ["select"]}}, watch={"postgres": {"statistics": True}})
    assert postgres.marts_readers(found) == ("crm_api",)
    assert postgres.statistics_roles(found) == ("crm_watch",)
