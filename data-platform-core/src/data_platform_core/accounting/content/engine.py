"""DuckDB as the place where two stages meet: tables of a run, and where two of them differ."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from data_platform_core.accounting.verdict import EXAMPLES, Violation
from data_platform_core.errors import AccountingError, ServiceError

#: What a comparison may hold in memory, MB; the rest goes to a temporary folder.
MEMORY_MB = 1_024
_EXTRA, _MISSING = "+", "-"
#: A line of CSV at most, bytes: an order of 10,000 lines has 0.7 MB.
_MAX_LINE = 4_194_304


class Engine:
    """One DuckDB database in a temporary folder. Identifiers come from contracts and models, never from data."""

    def __init__(self, folder: Path, memory_mb: int) -> None:
        self.folder = folder
        self.sql = duckdb.connect(
            str(folder / "content.duckdb"),
            config={
                "memory_limit": f"{memory_mb}MB",
                "temp_directory": str(folder),
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
            },
        )
        self.sql.execute("SET TimeZone = 'UTC'")

    def load(self, table: str, rows: pa.RecordBatchReader) -> int:
        """Make `table` of Arrow batches, one after the other; the number of rows."""
        self.sql.register("arriving", rows)
        try:
            self.sql.execute(f"CREATE OR REPLACE TABLE {quoted(table)} AS SELECT * FROM arriving")
        except duckdb.Error as error:  # whatever a reader raises comes out as an error of DuckDB
            raise ServiceError(f"reading {table} to compare its content failed: {_line(error)}") from None
        finally:
            self.sql.unregister("arriving")
        return self.count(table)

    def load_csv(self, table: str, file: Path, types: Mapping[str, str], nested: Mapping[str, str]) -> int:
        """Make `table` of what PostgreSQL's COPY wrote as CSV: an unquoted empty value is null; the number of rows.

        `types` are DuckDB's by column, in order; `nested` of those that hold a JSON document.
        """
        parsed = ", ".join(f"CAST({quoted(name)} AS {kind}) AS {quoted(name)}" for name, kind in nested.items())
        replaced = f"REPLACE ({parsed})" if set(nested) & set(types) else ""
        query = (
            f"CREATE OR REPLACE TABLE {quoted(table)} AS SELECT * {replaced} FROM read_csv(?, columns = ?, "
            "header = false, delim = ',', quote = '\"', escape = '\"', nullstr = '', allow_quoted_nulls = false, "
            f"auto_detect = false, max_line_size = {_MAX_LINE})"
        )
        try:
            self.sql.execute(query, [str(file), dict(types)])
        except duckdb.Error as error:
            raise AccountingError(f"{table} can't be compared: {_line(error)}") from None
        return self.count(table)

    def count(self, table: str) -> int:
        return int(self._one(f"SELECT count(*) FROM {quoted(table)}"))

    def query(self, text: str) -> list[tuple[Any, ...]]:
        return self.sql.execute(text).fetchall()

    def violations(self, what: str, examples: str) -> list[Violation]:
        """One violation for what the query `examples` finds, a text per row; none when it finds nothing."""
        count, shown = self.query(f"SELECT count(*), min(example, {EXAMPLES}) FROM ({examples}) AS found (example)")[0]
        return [Violation(what, count, tuple(shown))] if count else []

    def _one(self, text: str) -> Any:
        return self.query(text)[0][0]

    def differences(
        self, found: Side, wanted: Side, key: Sequence[str], columns: Sequence[str], *, matching: bool = False
    ) -> list[Violation]:
        """Where the rows of `found` are not those of `wanted`, by `key`: other values of `columns`, extra, missing.

        `matching`: rows that only one side has are another equation's business and left out.
        """
        differing = ", ".join(f"CASE WHEN {_differs(column)} THEN '{column}' END" for column in columns)
        example = " || ' ' || ".join(
            f"'{column}=' || coalesce(CAST(coalesce(f.{quoted(column)}, w.{quoted(column)}) AS VARCHAR), 'null')"
            for column in key
        )
        self.sql.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE differing AS
            SELECT
                CASE WHEN w._there IS NULL THEN '{_EXTRA}' WHEN f._there IS NULL THEN '{_MISSING}'
                    ELSE concat_ws(', ', {differing}) END AS what,
                {example} AS example
            FROM (SELECT *, true AS _there FROM {quoted(found.table)}) AS f
            {"INNER" if matching else "FULL OUTER"} JOIN (SELECT *, true AS _there FROM {quoted(wanted.table)}) AS w
                ON {" AND ".join(f"f.{quoted(column)} IS NOT DISTINCT FROM w.{quoted(column)}" for column in key)}
            WHERE w._there IS NULL OR f._there IS NULL OR {" OR ".join(map(_differs, columns))}
            """
        )
        groups = self.query(
            f"SELECT what, count(*), min(example, {EXAMPLES}) FROM differing GROUP BY what ORDER BY what"
        )
        phrases = {
            _EXTRA: f"rows of {found.name} that are not in {wanted.name}",
            _MISSING: f"rows of {wanted.name} that are not in {found.name}",
        }
        return [
            Violation(
                phrases.get(what, f"rows of {found.name} that differ in {what} from {wanted.name}"), count, (*shown,)
            )
            for what, count, shown in groups
        ]


@dataclass(frozen=True)
class Side:
    """One of two tables that are compared, and its name for people."""

    table: str
    name: str


def _line(error: duckdb.Error) -> str:
    return " ".join(str(error).split())[:300]


def _differs(column: str) -> str:
    return f"f.{quoted(column)} IS DISTINCT FROM w.{quoted(column)}"


def quoted(name: str) -> str:
    """An identifier of DuckDB."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def comparing(memory_mb: int = MEMORY_MB) -> Iterator[Engine]:
    """An engine whose tables are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="crm-reconcile-") as folder:
        engine = Engine(Path(folder), memory_mb)
        try:
            yield engine
        finally:
            engine.sql.close()
