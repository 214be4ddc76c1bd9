"""Migrations up, down and up again, with rows in every table: no row is lost, and no right is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from warehouse_trial import SettingsOf, migrated_database

from data_platform_core.access.postgres import TABLES
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.topology import Topology
from data_platform_core.warehouse.connections import connect
from data_platform_core.warehouse.schema import downgrade, migrate

pytestmark = pytest.mark.integration

#: A row of each table, those that are referred to first.
ROWS = {
    "platform.loads": "(entity, load_run, mode, delta_table_id, from_version, delta_version, rows, rows_known, "
    "started_at, loaded_at) VALUES ('orders', 'r', 'snapshot', 't', -1, 3, 5, 0, now(), now())",
    "ops.pipeline_completion_log": "(pipeline, interval_start, interval_end, outcome, started_at, finished_at) "
    "VALUES ('load-warehouse', '2026-03-01 09:00Z', '2026-03-01 10:00Z', 'failed', now(), now())",
    "ops.sla_definitions": "(pipeline, kind, deadline_minutes, owner) VALUES ('trial', 'hourly', 5, 'somebody')",
    "ops.sla_violations": "(definition_id, due_at, opened_at) "
    "SELECT max(definition_id), now() - interval '1 hour', now() FROM ops.sla_definitions",
    "errors.dlq_errors": "(entity, source_topic, source_partition, source_offset, source_ts, dlq_partition, "
    "dlq_offset, reason) VALUES ('orders', 'crm.orders.v1', 0, 7, now(), 0, 1, 'undecodable')",
    "errors.retry_history": "(dlq_error_id, attempt, outcome) SELECT dlq_error_id, 1, 'refused' FROM errors.dlq_errors",
}


@pytest.fixture
def fresh(stack: Topology, settings: SettingsOf) -> Iterator[SettingsOf]:
    """Settings of a service, in a migrated database that only this test has."""
    with migrated_database(stack, settings, "crm_downgrade") as found:
        yield found


def query(settings_of: SettingsOf, statement: str, service: str = "admin") -> list[tuple[Any, ...]]:
    with connect(settings_of(service).postgres, "test") as connection:
        found = connection.execute(statement.encode())
        return found.fetchall() if found.description else []


def fill(settings_of: SettingsOf) -> dict[str, list[tuple[Any, ...]]]:
    """A row in every table; all rows by table."""
    for table, row in ROWS.items():
        query(settings_of, f"INSERT INTO {table} {row}")
    return contents(settings_of)


def contents(settings_of: SettingsOf) -> dict[str, list[tuple[Any, ...]]]:
    return {table: sorted(query(settings_of, f"SELECT t::text FROM {table} t")) for table in TABLES.values()}


def tables(settings_of: SettingsOf) -> set[str]:
    rows = query(
        settings_of,
        "SELECT schemaname || '.' || tablename FROM pg_tables "
        "WHERE schemaname IN ('platform', 'ops', 'errors', 'retired')",
    )
    return {name for (name,) in rows} - {"platform.alembic_version"}


@pytest.mark.parametrize("revision", ["base", "0001", "0002"])
def test_up_down_and_up_again_keeps_every_row_and_every_right(fresh: SettingsOf, revision: str) -> None:
    before = fill(fresh)
    assert all(before.values())
    landed = query(fresh, "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'raw_crm'")

    downgrade(fresh("admin"), revision)
    gone = {"base": "platform ops errors", "0001": "ops errors", "0002": "errors"}[revision].split()
    assert tables(fresh) == {
        f"retired.{name.split('.')[1]}" if name.split(".")[0] in gone else name for name in TABLES.values()
    }
    assert query(fresh, "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'raw_crm'") == landed

    migrate(fresh("admin"))
    assert contents(fresh) == before
    assert tables(fresh) == set(TABLES.values())
    assert query(fresh, "SELECT count(*) FROM ops.sla_violations", "reader") == [(1,)]
    # Constraints, identities and the partial unique index came back with the tables.
    with pytest.raises(psycopg.errors.UniqueViolation):
        query(fresh, f"INSERT INTO ops.sla_violations {ROWS['ops.sla_violations']}")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        query(fresh, "INSERT INTO errors.retry_history (dlq_error_id, attempt, outcome) VALUES (99, 1, 'failed')")


def test_empty_tables_are_dropped_and_nothing_is_retired(fresh: SettingsOf) -> None:
    query(fresh, "DELETE FROM ops.sla_definitions")
    downgrade(fresh("admin"), "0001")
    assert tables(fresh) == {"platform.loads"}
    migrate(fresh("admin"))
    assert tables(fresh) == set(TABLES.values())


def test_what_was_retired_is_nobodys_but_the_owners(fresh: SettingsOf) -> None:
    fill(fresh)
    downgrade(fresh("admin"), "0001")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        query(fresh, "SELECT 1 FROM retired.sla_violations", "reader")


@pytest.mark.parametrize("revision", ["0003", "0009", "head"])
def test_a_revision_that_is_not_below_is_refused_with_those_that_are(fresh: SettingsOf, revision: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is not below the warehouse's \(0003\); one of: 0002, 0001, base"):
        downgrade(fresh("admin"), revision)


def test_a_downgrade_that_fails_changes_nothing(fresh: SettingsOf) -> None:
    before = fill(fresh)
    # The name is taken where the first table goes to.
    query(fresh, "CREATE SCHEMA retired; CREATE TABLE retired.sla_violations ()")
    with pytest.raises(Exception, match="already exists"):
        downgrade(fresh("admin"), "0001")
    assert contents(fresh) == before


def test_another_role_may_not_take_back_and_is_told_so(fresh: SettingsOf) -> None:
    with pytest.raises(ServiceError, match="'crm_reader' may not change the warehouse"):
        downgrade(fresh("reader"), "0001")
