"""Landing rows against silver, and every mart against its recomputation from the landing rows, in DuckDB.

What is recomputed, and from which rows, is `recomputed/marts.yaml` with a query beside it per mart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_platform_core.accounting.content.copies import Copied, Copies, Mart
from data_platform_core.accounting.content.engine import Engine, Side, quoted
from data_platform_core.accounting.content.types import contract_types, duckdb_nested, duckdb_type
from data_platform_core.accounting.marts import mart, project_variables
from data_platform_core.accounting.verdict import Violation
from data_platform_core.contracts import Contract, load_contract
from data_platform_core.errors import AccountingError
from data_platform_core.warehouse.columns import landing_columns, silver_columns

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


def define(engine: Engine, timezone: str) -> None:
    """Define what recomputations use: the macros, in the business's time zone, and the variables of dbt's project."""
    engine.sql.execute(MACROS.format(timezone=timezone))
    for name, value in project_variables().items():
        engine.sql.execute(f"SET VARIABLE {quoted(name)} = ?", [value])


def check_warehouse(engine: Engine, copies: Copies) -> list[Violation]:
    """A8 for landing table and marts. Needs the engine's table `silver` (`check_lake`).

    A table that is missing is a violation like any. Raises ServiceError when PostgreSQL refuses us.
    """
    try:
        return _Warehouse(engine, copies).violations()
    except AccountingError as error:
        return [Violation(str(error), 1)]


class _Warehouse:
    def __init__(self, engine: Engine, copies: Copies) -> None:
        self._engine, self._copies, self._contract = engine, copies, copies.contract
        define(engine, copies.timezone)
        self._engine.sql.execute("CREATE OR REPLACE TABLE days (day DATE)")
        days = copies.days()
        if days:
            self._engine.sql.executemany("INSERT INTO days VALUES (?)", [(day,) for day in days])

    def violations(self) -> list[Violation]:
        found = self._landing()
        for one in self._copies.scope.marts:
            try:
                found += self._mart(one)
            except AccountingError as error:
                found.append(Violation(str(error), 1))
        return found

    def _landing(self) -> list[Violation]:
        self._load("landing", self._copies.landing(), self._contract)
        run = self._copies.run_id.replace("'", "''")
        self._engine.sql.execute(f"CREATE OR REPLACE VIEW of_run AS SELECT * FROM landing WHERE run_id = '{run}'")
        carried = silver_columns(self._contract)
        texts = [quoted(c.name) for c in carried if c.sql_type == "text"]
        storable = ", ".join(f"replace({name}, {_NUL}, {_REPLACEMENT}) AS {name}" for name in texts)
        self._engine.sql.execute(f"CREATE OR REPLACE VIEW storable AS SELECT * REPLACE ({storable}) FROM silver")
        return self._engine.differences(
            Side("of_run", self._contract.names.landing_table),
            Side("storable", "silver"),
            _LANDING_KEY,
            [column.name for column in carried if column.name not in _LANDING_KEY],
        )

    def _mart(self, one: Mart) -> list[Violation]:
        copied, table = self._copies.mart(one), mart(one.name)
        self._load("mart", copied)
        for read in one.reads:
            self._load(read.name, self._copies.read(read), load_contract(read.entity))
        self._engine.sql.execute(f"CREATE OR REPLACE TABLE recomputed AS {one.query}")
        for read in one.reads:
            self._engine.sql.execute(f"DROP TABLE {quoted(read.name)}")
        described = self._engine.query("SELECT column_name FROM (DESCRIBE recomputed)")
        unknown = sorted(set(copied.types) ^ {name for (name,) in described})
        if unknown:
            return [Violation(f"columns of {table} that its recomputation does not share", len(unknown), (*unknown,))]
        columns = [name for name in copied.types if name not in one.key]
        return self._engine.differences(Side("mart", table), Side("recomputed", "its recomputation"), one.key, columns)

    def _load(self, name: str, copied: Copied, contract: Contract | None = None) -> None:
        """Make a table of what was copied; of landing rows, those of `contract`."""
        types = {column: duckdb_type(kind) for column, kind in copied.types.items()}
        self._engine.load_csv(name, copied.file, types, _nested(contract) if contract else {})
        copied.file.unlink()


def _nested(contract: Contract) -> dict[str, str]:
    """DuckDB type by JSON column of the contract."""
    kinds = contract_types(contract)
    documents: Sequence[Any] = [c for c in landing_columns(contract) if c.sql_type == "jsonb"]
    return {column.name: duckdb_nested(kinds[column.name]) for column in documents}
