"""Landing rows against silver, and every mart against its recomputation from the landing rows, in DuckDB.

What is recomputed, and from which rows, is `recomputed/marts.yaml` with a query beside it per mart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import psycopg
import yaml
from psycopg import sql

from data_platform_core.accounting.content.engine import Engine, Side, quoted
from data_platform_core.accounting.content.types import contract_types, duckdb_nested, duckdb_type
from data_platform_core.accounting.marts import business_timezone, mart, warehouse_errors
from data_platform_core.accounting.verdict import Violation
from data_platform_core.contracts import Contract
from data_platform_core.errors import AccountingError
from data_platform_core.warehouse.columns import landing_columns, silver_columns

RECOMPUTED: Final = Path(__file__).parent / "recomputed"
_LANDING_KEY = ("kafka_partition", "kafka_offset")
#: What PostgreSQL can't hold is replaced by the load; silver is compared as the load must write it.
_NUL, _REPLACEMENT = "chr(0)", "chr(65533)"
MACROS = """
CREATE OR REPLACE MACRO local_time(moment) AS timezone('{timezone}', moment);
CREATE OR REPLACE MACRO business_day(moment) AS CAST(timezone('{timezone}', moment) AS DATE);
CREATE OR REPLACE MACRO won(total) AS CAST(ifnull(total, 0) AS DECIMAL(38, 6));
-- Whole-number division, half up: exact, where a division of doubles is not.
CREATE OR REPLACE MACRO rate(part, whole) AS CASE WHEN whole > 0 THEN
    CAST((2000000::HUGEINT * part + whole) // (2::HUGEINT * whole) AS DECIMAL(31, 0)) * 0.000001::DECIMAL(7, 6) END;
CREATE OR REPLACE MACRO average(total, number) AS CASE WHEN number > 0 THEN
    CAST((200::HUGEINT * total + number) // (2::HUGEINT * number) AS DECIMAL(31, 0)) * 0.01::DECIMAL(3, 2) END;
"""


@dataclass(frozen=True)
class Mart:
    """A mart's key, and which of its rows a run touches (a predicate of PostgreSQL)."""

    name: str
    key: tuple[str, ...]
    rows: str

    @property
    def query(self) -> str:
        return (RECOMPUTED / f"{self.name}.sql").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Scope:
    """What a run touches of an entity: its landing rows, and those of other runs that its marts depend on."""

    landing: str
    marts: tuple[Mart, ...]


@lru_cache(maxsize=1)
def scopes() -> Mapping[str, Scope]:
    """The scope of each entity."""
    listed = yaml.safe_load((RECOMPUTED / "marts.yaml").read_text(encoding="utf-8"))
    return {
        entity: Scope(
            raw["landing"],
            tuple(Mart(name, tuple(one["key"]), one["rows"]) for name, one in (raw.get("marts") or {}).items()),
        )
        for entity, raw in listed.items()
    }


def check_warehouse(engine: Engine, connection: psycopg.Connection, contract: Contract, run_id: str) -> list[Violation]:
    """A8 for landing table and marts. Needs the engine's table `silver` (`check_lake`).

    A table that is missing is a violation like any. Raises ServiceError when PostgreSQL refuses us.
    """
    try:
        return _Warehouse(engine, connection, contract, run_id).violations()
    except AccountingError as error:
        return [Violation(str(error), 1)]


class _Warehouse:
    def __init__(self, engine: Engine, connection: psycopg.Connection, contract: Contract, run_id: str) -> None:
        self._engine, self._connection, self._contract = engine, connection, contract
        self._scope = scopes().get(contract.entity, Scope("run_id = %(run_id)s", ()))
        self._run_id, self._timezone = run_id, business_timezone()
        self._engine.sql.execute(MACROS.format(timezone=self._timezone))
        self._values = {"run_id": run_id, "timezone": self._timezone, "days": self._days()}

    def violations(self) -> list[Violation]:
        found = self._landing()
        for one in self._scope.marts:
            try:
                found += self._mart(one)
            except AccountingError as error:
                found.append(Violation(str(error), 1))
        return found

    def _days(self) -> list[date]:
        table = self._contract.names.landing_table
        query = f"SELECT DISTINCT (event_ts AT TIME ZONE %(timezone)s)::date FROM {table} WHERE run_id = %(run_id)s"
        with warehouse_errors(self._connection, table):
            rows = self._connection.execute(query, {"run_id": self._run_id, "timezone": self._timezone}).fetchall()
        days = [row[0] for row in rows]
        self._engine.sql.execute("CREATE OR REPLACE TABLE days (day DATE)")
        if days:
            self._engine.sql.executemany("INSERT INTO days VALUES (?)", [(day,) for day in days])
        return days

    def _landing(self) -> list[Violation]:
        table = self._contract.names.landing_table
        types = {column.name: column.sql_type for column in landing_columns(self._contract)}
        self._fetch("landing", table, types, f"run_id = %(run_id)s OR ({self._scope.landing})")
        run = self._run_id.replace("'", "''")
        self._engine.sql.execute(f"CREATE OR REPLACE VIEW of_run AS SELECT * FROM landing WHERE run_id = '{run}'")
        carried = silver_columns(self._contract)
        texts = [quoted(c.name) for c in carried if c.sql_type == "text"]
        storable = ", ".join(f"replace({name}, {_NUL}, {_REPLACEMENT}) AS {name}" for name in texts)
        self._engine.sql.execute(f"CREATE OR REPLACE VIEW storable AS SELECT * REPLACE ({storable}) FROM silver")
        return self._engine.differences(
            Side("of_run", table),
            Side("storable", "silver"),
            _LANDING_KEY,
            [column.name for column in carried if column.name not in _LANDING_KEY],
        )

    def _mart(self, one: Mart) -> list[Violation]:
        table = mart(one.name)
        types = self._columns(table)
        self._fetch("mart", table, types, one.rows)
        self._engine.sql.execute(f"CREATE OR REPLACE TABLE recomputed AS {one.query}")
        described = self._engine.query("SELECT column_name FROM (DESCRIBE recomputed)")
        unknown = sorted(set(types) ^ {name for (name,) in described})
        if unknown:
            return [Violation(f"columns of {table} that its recomputation does not share", len(unknown), (*unknown,))]
        columns = [name for name in types if name not in one.key]
        return self._engine.differences(Side("mart", table), Side("recomputed", "its recomputation"), one.key, columns)

    def _columns(self, table: str) -> dict[str, str]:
        """PostgreSQL type by column. Raises AccountingError when there is no such table."""
        query = (
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
        with warehouse_errors(self._connection, table):
            return {str(name): str(kind) for name, kind in self._connection.execute(query, (table,)).fetchall()}

    def _fetch(self, name: str, table: str, types: Mapping[str, str], rows: str) -> None:
        """The engine's table `name`: rows of a table of PostgreSQL, by COPY and a file."""
        file = self._engine.folder / f"{name}.csv"
        query = sql.SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT (FORMAT csv)").format(
            sql.SQL(", ").join(map(sql.Identifier, types)), sql.Identifier(*table.split(".")), sql.SQL(rows)
        )
        with (
            warehouse_errors(self._connection, table),
            file.open("wb") as target,
            self._connection.cursor().copy(query, self._values) as copy,
        ):
            for data in copy:
                target.write(data)
        self._engine.load_csv(name, file, {column: duckdb_type(kind) for column, kind in types.items()}, self._nested())
        file.unlink()

    def _nested(self) -> dict[str, str]:
        """DuckDB type by JSON column of the contract."""
        kinds = contract_types(self._contract)
        documents: Sequence[Any] = [c for c in landing_columns(self._contract) if c.sql_type == "jsonb"]
        return {column.name: duckdb_nested(kinds[column.name]) for column in documents}
