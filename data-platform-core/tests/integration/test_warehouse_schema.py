"""Migrations follow the contracts, and each role has only the permissions that it needs."""

from __future__ import annotations

import copy
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from warehouse_trial import SettingsOf, in_trial_database, trial_contract, trial_settings

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.warehouse.connections import connect
from data_platform_core.warehouse.schema import migrate

pytestmark = pytest.mark.integration

__all__ = ["trial_settings"]


def with_fields(contract: Contract, *fields: dict[str, Any], without: str = "") -> Contract:
    avro = copy.deepcopy(contract.avro)
    avro["fields"] = [field for field in avro["fields"] if field["name"] != without] + list(fields)
    return Contract.model_validate(contract.model_dump() | {"avro": avro})


def columns(settings_of: SettingsOf, table: str) -> dict[str, tuple[str, str]]:
    with connect(settings_of("accounting").postgres, "test") as connection:
        rows = connection.execute(
            "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
            "WHERE table_schema = 'raw_crm' AND table_name = %s",
            (table,),
        )
        return {name: (kind, nullable) for name, kind, nullable in rows}


def test_migrating_twice_changes_nothing(trial_settings: SettingsOf, contracts: dict[str, Contract]) -> None:
    before = {entity: columns(trial_settings, entity) for entity in contracts}
    migrate(trial_settings("admin"))
    assert {entity: columns(trial_settings, entity) for entity in contracts} == before
    assert all(before.values())


def test_a_new_entity_gets_its_table_and_a_new_nullable_field_its_column(trial_settings: SettingsOf) -> None:
    trial = trial_contract("products", "trial_growth")
    migrate(trial_settings("admin"), {trial.entity: trial})
    assert columns(trial_settings, trial.entity)["stock"] == ("integer", "NO")

    colour = {"name": "colour", "type": ["null", "string"], "default": None, "doc": "Colour."}
    migrate(trial_settings("admin"), {trial.entity: with_fields(trial, colour)})
    assert columns(trial_settings, trial.entity)["colour"] == ("text", "YES")

    # A field removed from the contract keeps its column, which is null in new rows.
    migrate(trial_settings("admin"), {trial.entity: with_fields(trial, colour, without="stock")})
    assert columns(trial_settings, trial.entity)["stock"] == ("integer", "YES")


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        (
            {"name": "stock", "type": "string", "doc": "In words."},
            "column stock is integer, the contract now says text",
        ),
        ({"name": "colour", "type": "string", "doc": "Colour."}, "new field colour is not nullable"),
    ],
)
def test_a_change_that_stored_rows_can_not_follow_is_refused_and_nothing_is_changed(
    trial_settings: SettingsOf, field: dict[str, Any], complaint: str
) -> None:
    trial = trial_contract("products", "trial_refused")
    migrate(trial_settings("admin"), {trial.entity: trial})
    before = columns(trial_settings, trial.entity)
    taste = {"name": "taste", "type": ["null", "string"], "default": None, "doc": "Would be added first."}
    changed = with_fields(trial, taste, field, without=field["name"])
    with pytest.raises(ServiceError, match=complaint):
        migrate(trial_settings("admin"), {trial.entity: changed})
    assert columns(trial_settings, trial.entity) == before


def test_migrations_by_a_role_that_may_not_are_refused_in_one_line(trial_settings: SettingsOf) -> None:
    trial = trial_contract("products", "trial_forbidden")
    with pytest.raises(ServiceError, match="'crm_reader' may not change the warehouse") as refused:
        migrate(trial_settings("reader"), {trial.entity: trial})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("service", "statement"),
    [
        ("reader", "SELECT 1 FROM raw_crm.events"),
        ("reader", "SELECT 1 FROM raw_crm.profiles"),
        ("reader", "SELECT 1 FROM platform.alembic_version"),
        ("reader", "INSERT INTO platform.loads (entity) VALUES ('x')"),
        ("reader", "CREATE TABLE marts.mine (a int)"),
        ("accounting", "DELETE FROM raw_crm.orders"),
        ("accounting", "CREATE TABLE platform.mine (a int)"),
        ("dbt", "INSERT INTO platform.loads (entity) VALUES ('x')"),
        ("dbt", "DELETE FROM raw_crm.orders"),
        ("dbt", "CREATE TABLE raw_crm.mine (a int)"),
        ("batch", "UPDATE raw_crm.orders SET amount_krw = 0"),
        ("batch", "DROP TABLE raw_crm.orders"),
        ("batch", "DELETE FROM platform.loads"),
        ("batch", "CREATE TABLE marts.mine (a int)"),
        ("batch", "DELETE FROM ops.pipeline_completion_log"),
        ("batch", "SELECT 1 FROM ops.sla_definitions"),
        ("dbt", "INSERT INTO ops.sla_violations DEFAULT VALUES"),
        ("reader", "UPDATE ops.sla_definitions SET enabled = false"),
        ("reader", "SELECT 1 FROM errors.dlq_errors"),
        ("sla", "UPDATE ops.sla_definitions SET enabled = false"),
        ("sla", "INSERT INTO ops.pipeline_completion_log DEFAULT VALUES"),
        ("sla", "DELETE FROM ops.sla_violations"),
        ("sla", "SELECT 1 FROM raw_crm.orders"),
    ],
)
def test_a_role_may_not_do_another_ones_work(trial_settings: SettingsOf, service: str, statement: str) -> None:
    with (
        connect(trial_settings(service).postgres, "test") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


def test_a_wrong_password_names_the_setting_and_not_the_password(trial_settings: SettingsOf) -> None:
    wrong = in_trial_database(trial_settings("batch"), password=SecretStr("do-not-print-me"))
    with pytest.raises(ServiceError, match=r"refuses user 'crm_batch'.*CRM_POSTGRES__PASSWORD") as refused:
        connect(wrong.postgres, "test")
    assert "do-not-print-me" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_database_that_is_missing_is_named(trial_settings: SettingsOf) -> None:
    wrong = in_trial_database(trial_settings("batch"), database="no_such_database")
    with pytest.raises(ServiceError, match="no database 'no_such_database'"):
        connect(wrong.postgres, "test")
