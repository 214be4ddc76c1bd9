"""`crm warehouse reset`: everything or nothing, after a question, and nowhere but on a laptop."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from warehouse_trial import SettingsOf, migrated_database

from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.jobs import program_path
from data_platform_core.topology import Topology
from data_platform_core.warehouse import schema
from data_platform_core.warehouse.connections import connect

pytestmark = pytest.mark.integration


@pytest.fixture
def filled(stack: Topology, settings: SettingsOf) -> Iterator[SettingsOf]:
    """A database with a table of dbt's in marts, and one that a downgrade left behind."""
    with migrated_database(stack, settings, "crm_reset") as found:
        with connect(found("dbt").postgres, "test") as connection:
            connection.execute("CREATE TABLE marts.dim_trial AS SELECT 1 AS a")
        schema.downgrade(found("admin"), "0001")
        yield found


def tables(settings_of: SettingsOf) -> set[str]:
    with connect(settings_of("admin").postgres, "test") as connection:
        rows = connection.execute(
            "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('marts', 'retired', 'ops')"
        ).fetchall()
    return {name for (name,) in rows}


def crm(settings_of: SettingsOf, *options: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    database = settings_of("admin").postgres.database
    return subprocess.run(
        [program_path("crm"), "--env", "test", "warehouse", "reset", *options],
        input=answer,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"CRM_POSTGRES__DATABASE": database},
    )


@pytest.mark.parametrize(("options", "answer"), [((), "y\n"), (("--yes",), "")])
def test_a_reset_leaves_empty_tables_and_no_model(filled: SettingsOf, options: tuple[str, ...], answer: str) -> None:
    assert {"marts.dim_trial", "retired.sla_definitions"} <= tables(filled)
    done = crm(filled, *options, answer=answer)
    assert (done.returncode, done.stderr) == (0, "")
    assert tables(filled) == {"ops.pipeline_completion_log", "ops.sla_definitions", "ops.sla_violations"}


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_without_a_yes_nothing_is_deleted(filled: SettingsOf, answer: str) -> None:
    before = tables(filled)
    done = crm(filled, answer=answer)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert tables(filled) == before


def test_a_table_in_use_is_one_line_and_nothing_is_deleted(filled: SettingsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "LOCK_WAIT_S", 1)
    before = tables(filled)
    with connect(filled("dbt").postgres, "test") as reader:
        reader.execute("SELECT 1 FROM marts.dim_trial")
        with pytest.raises(ServiceError, match="database crm_reset is in use for more than 1 s; end loads and builds"):
            schema.reset(filled("admin"))
    assert tables(filled) == before


def test_another_environment_is_refused(filled: SettingsOf) -> None:
    elsewhere = filled("admin").model_copy(update={"environment": "home"})
    with pytest.raises(ConfigurationError, match="the warehouse of home is not reset; only those of local and test"):
        schema.reset(elsewhere)
