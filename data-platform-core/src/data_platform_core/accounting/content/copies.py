"""What a run touches of the warehouse, copied in the background: PostgreSQL works while the lake is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import psycopg
import yaml
from psycopg import sql

from data_platform_core.accounting.marts import business_timezone, mart, warehouse_errors
from data_platform_core.contracts import Contract, load_contract
from data_platform_core.warehouse.columns import landing_columns

RECOMPUTED: Final = Path(__file__).parent / "recomputed"


@dataclass(frozen=True)
class Read:
    """Further landing rows that a mart follows from: those of `entity` for which the predicate `rows` holds."""

    name: str
    entity: str
    rows: str


@dataclass(frozen=True)
class Mart:
    """A mart's key, and which of its rows a run touches (a predicate of PostgreSQL)."""

    name: str
    key: tuple[str, ...]
    rows: str
    reads: tuple[Read, ...] = ()

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
        entity: Scope(raw["landing"], tuple(_mart(name, one) for name, one in (raw.get("marts") or {}).items()))
        for entity, raw in listed.items()
    }


def _mart(name: str, raw: Mapping[str, Any]) -> Mart:
    reads = (Read(table, one["entity"], one["rows"]) for table, one in raw.get("reads", {}).items())
    return Mart(name, tuple(raw["key"]), raw["rows"], tuple(reads))


@dataclass(frozen=True)
class Copied:
    """A table's rows as CSV without a header, and the PostgreSQL type of each column, in order."""

    file: Path
    types: Mapping[str, str]


class Copies:
    """The business days of a run's rows, and its rows of landing table and marts.

    Each raises what `warehouse_errors` does, when it is asked for. One copy at a time: they share a connection.
    """

    def __init__(self, folder: Path, connection: psycopg.Connection, contract: Contract, run_id: str) -> None:
        self.contract, self.run_id, self.timezone = contract, run_id, business_timezone()
        self.scope = scopes().get(contract.entity, Scope("run_id = %(run_id)s", ()))
        self._folder, self._connection = folder, connection
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._found_days = self._pool.submit(self._days)
        self._landing = self._pool.submit(self._copy_landing)
        self._marts = {one.name: self._pool.submit(self._copy_mart, one) for one in self.scope.marts}
        self._reads = {read: self._pool.submit(self._copy_read, read) for one in self.scope.marts for read in one.reads}

    def days(self) -> list[date]:
        """Business days of the run's landing rows."""
        return self._found_days.result()

    def landing(self) -> Copied:
        """Landing rows of the run, and those of other runs that its marts depend on."""
        return self._landing.result()

    def mart(self, one: Mart) -> Copied:
        """Rows of a mart that the run touches."""
        return self._marts[one.name].result()

    def read(self, one: Read) -> Copied:
        """Further landing rows of a mart."""
        return self._reads[one].result()

    def close(self) -> None:
        """End after the copy that runs, without those that wait."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _days(self) -> list[date]:
        table = self.contract.names.landing_table
        query = f"SELECT DISTINCT (event_ts AT TIME ZONE %(timezone)s)::date FROM {table} WHERE run_id = %(run_id)s"
        with warehouse_errors(self._connection, table):
            return [row[0] for row in self._connection.execute(query, self._values()).fetchall()]

    def _copy_landing(self) -> Copied:
        return self._copy_rows(self.contract, f"run_id = %(run_id)s OR ({self.scope.landing})", "landing")

    def _copy_read(self, read: Read) -> Copied:
        return self._copy_rows(load_contract(read.entity), read.rows, read.name)

    def _copy_rows(self, contract: Contract, rows: str, name: str) -> Copied:
        types = {column.name: column.sql_type for column in landing_columns(contract)}
        return self._copy(contract.names.landing_table, types, rows, name)

    def _copy_mart(self, one: Mart) -> Copied:
        table = mart(one.name)
        return self._copy(table, self._columns(table), one.rows, one.name)

    def _columns(self, table: str) -> dict[str, str]:
        """PostgreSQL type by column. Raises AccountingError when there is no such table."""
        query = (
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
        with warehouse_errors(self._connection, table):
            return {str(name): str(kind) for name, kind in self._connection.execute(query, (table,)).fetchall()}

    def _copy(self, table: str, types: Mapping[str, str], rows: str, name: str) -> Copied:
        file = self._folder / f"{name}.csv"
        query = sql.SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT (FORMAT csv)").format(
            sql.SQL(", ").join(map(sql.Identifier, types)), sql.Identifier(*table.split(".")), sql.SQL(rows)
        )
        values = {**self._values(), "days": self.days()}
        with (
            warehouse_errors(self._connection, table),
            file.open("wb") as target,
            self._connection.cursor().copy(query, values) as copy,
        ):
            for data in copy:
                target.write(data)
        return Copied(file, types)

    def _values(self) -> dict[str, Any]:
        return {"run_id": self.run_id, "timezone": self.timezone}


@contextmanager
def copying(folder: Path, connection: psycopg.Connection, contract: Contract, run_id: str) -> Iterator[Copies]:
    """Copies that are made from now on; `connection` belongs to them until the end."""
    copies = Copies(folder, connection, contract, run_id)
    try:
        yield copies
    finally:
        copies.close()
