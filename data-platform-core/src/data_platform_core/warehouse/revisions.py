"""What the Alembic revisions share: comments, and a downgrade that loses no row (ADR 0026).

A downgrade is for a release that has to be taken back now. So it must not be refused, and it must not delete rows: an
empty table is dropped, a table with rows moves to the schema `retired`, where no role but the owner has access. The
next upgrade moves it back, with its rows, constraints and indexes.
"""

from __future__ import annotations

from collections.abc import Mapping

from alembic import op
from sqlalchemy import text

from data_platform_core.naming import RETIRED_SCHEMA


def describe(table: str, comment: str, columns: Mapping[str, str]) -> None:
    """Comment on a table (with its schema) and on its columns."""
    op.execute(text(f"COMMENT ON TABLE {table} IS {_literal(comment)}"))
    for column, about in columns.items():
        op.execute(text(f"COMMENT ON COLUMN {table}.{column} IS {_literal(about)}"))


def retire(*tables: str) -> None:
    """Drop those of the tables (`schema.name`, referring tables first) that are empty, and put the others away."""
    for table in tables:
        if _one(f"SELECT EXISTS (SELECT FROM {table})"):
            op.execute(f"CREATE SCHEMA IF NOT EXISTS {RETIRED_SCHEMA}")
            op.execute(f"ALTER TABLE {table} SET SCHEMA {RETIRED_SCHEMA}")
        else:
            op.execute(f"DROP TABLE {table}")


def revive(table: str) -> bool:
    """Bring back a table that `retire` put away. Returns False where there is none: the caller creates it."""
    schema, _, name = table.partition(".")
    if not _one(f"SELECT to_regclass('{RETIRED_SCHEMA}.{name}') IS NOT NULL"):
        return False
    op.execute(f"ALTER TABLE {RETIRED_SCHEMA}.{name} SET SCHEMA {schema}")
    return True


def _one(query: str) -> bool:
    return bool(op.get_bind().execute(text(query)).scalar_one())


def _literal(words: str) -> str:
    # SQLAlchemy's text() reads `:name` as a parameter.
    return "'" + words.replace("'", "''").replace(":", "\\:") + "'"
