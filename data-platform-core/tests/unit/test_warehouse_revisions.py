"""Every revision of the warehouse can be taken back, and every table of the matrix is one of theirs."""

from __future__ import annotations

import inspect
import re

import pytest
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from data_platform_core.access.postgres import TABLES
from data_platform_core.warehouse.schema import MIGRATIONS_DIR

pytestmark = pytest.mark.unit


def revisions() -> list[Script]:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_DIR))
    return list(ScriptDirectory.from_config(config).walk_revisions())


def created(revision: Script) -> set[str]:
    """Tables that a revision creates; a name in braces is a constant of the module."""
    source = inspect.getsource(revision.module)
    named = re.findall(r"CREATE TABLE \{?([\w.]+)\}?", source)
    return {getattr(revision.module, name, name) for name in named}


def test_revisions_follow_each_other_in_one_line() -> None:
    assert [revision.revision for revision in revisions()] == ["0003", "0002", "0001"]
    assert [revision.down_revision for revision in revisions()] == ["0002", "0001", None]


@pytest.mark.parametrize("revision", revisions(), ids=lambda revision: revision.revision)
def test_a_revision_takes_back_what_it_created_without_dropping_a_row(revision: Script) -> None:
    undo = inspect.getsource(revision.module.downgrade)
    assert "retire(" in undo
    assert "DROP TABLE" not in inspect.getsource(revision.module)
    assert created(revision)
    constants = {value: name for name, value in vars(revision.module).items() if isinstance(value, str)}
    assert [table for table in created(revision) if constants.get(table, table) not in undo] == []


def test_every_table_that_accounts_are_granted_is_created_by_a_revision() -> None:
    assert set().union(*map(created, revisions())) == set(TABLES.values())
