"""A5 of one entity: sums of silver beside those of landing table and marts, of the run and of everything."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
import pyarrow as pa

from data_platform_core.accounting import marts
from data_platform_core.accounting.covered import DailyMart, EachMart, NewestMart, covered_marts
from data_platform_core.accounting.lake_reader import LakeReader
from data_platform_core.accounting.sums import (
    SUMMED_COLUMNS,
    Measure,
    Sums,
    a5_sums,
    having,
    latest,
    not_replaced,
    of_run,
    only,
    sums,
    total_rows,
    with_business_date,
)
from data_platform_core.accounting.verdict import Violation
from data_platform_core.contracts import Contract
from data_platform_core.errors import AccountingError
from data_platform_core.settings import Settings
from data_platform_core.warehouse.loads import last_load


@dataclass(frozen=True)
class Landed:
    """Rows of the run in the warehouse, and what is wrong with its sums."""

    landing: int | None
    marts: int | None
    violations: tuple[Violation, ...]


class WarehouseSums:
    """A5 of one entity. Reads the lake by delta-rs and the warehouse by SQL."""

    def __init__(
        self, settings: Settings, contract: Contract, run_id: str, lake: LakeReader, warehouse: psycopg.Connection
    ) -> None:
        self._contract = contract
        self._run_id = run_id
        self._lake = lake
        self._warehouse = warehouse
        self._daily_sums: dict[bool, Sums] = {}
        self._measure = Measure(contract.sums.kind, contract.sums.amount)
        self._covered = [mart for mart in covered_marts() if mart.entity == contract.entity]

    def judge(self) -> Landed:
        """A table that is missing is a violation like any: the report still shows the rest."""
        loaded = last_load(self._warehouse, self._contract.entity)
        # The run is compared with silver as it is; everything with the version that was loaded, so that a stream
        # under way does not look like a loss.
        run = sums(self._lake.silver_columns(self._columns(), run_id=self._run_id), self._measure)
        rows = self._lake.silver_columns(self._columns(), loaded.delta_version if loaded else None)
        everything = sums(rows, self._measure)
        found: list[Violation] = []
        counted: list[int | None] = []
        each = [marts.mart(mart.name) for mart in self._covered if isinstance(mart, EachMart)]
        for table in (self._contract.names.landing_table, *each):
            try:
                there = marts.table_sums(self._warehouse, table, self._measure, self._run_id)
            except AccountingError as error:
                found.append(Violation(str(error), 1))
                counted.append(None)
                continue
            found += a5_sums(run, f"{table} (of the run)", there.run)
            found += a5_sums(everything, table, there.every)
            counted.append(total_rows(there.run))
        found += self._latest(counted, rows) + self._daily(rows)
        return Landed(counted[0], counted[1] if len(counted) > 1 else None, tuple(found))

    def _columns(self) -> tuple[str, ...]:
        """Columns of silver that the sums of this entity need."""
        wanted = [*SUMMED_COLUMNS, *self._contract.sums.columns]
        for mart in self._covered:
            if isinstance(mart, NewestMart):
                wanted += [*self._key(mart), *mart.only, *([mart.kind] if mart.kind else [])]
            elif isinstance(mart, DailyMart) and mart.replaced:
                wanted.append(self._contract.key)
        return tuple(dict.fromkeys(wanted))

    def _key(self, mart: NewestMart) -> tuple[str, ...]:
        return mart.key or (self._contract.key,)

    def _latest(self, counted: list[int | None], rows: pa.Table) -> list[Violation]:
        found: list[Violation] = []
        for mart in self._covered:
            if not isinstance(mart, NewestMart):
                continue
            newest = latest(having(rows, mart.only), self._key(mart))
            measure = Measure(mart.kind, None) if mart.kind else self._measure
            table = marts.mart(mart.name)
            try:
                there = marts.table_sums(self._warehouse, table, measure, self._run_id, by_day=False)
            except AccountingError as error:
                found.append(Violation(str(error), 1))
                continue
            found += a5_sums(sums(of_run(newest, self._run_id), measure, day=None), f"{table} (of the run)", there.run)
            found += a5_sums(sums(newest, measure, day=None), table, there.every)
            counted.append(total_rows(there.run))
        return found

    def _daily(self, rows: pa.Table) -> list[Violation]:
        found: list[Violation] = []
        for mart in self._covered:
            if not isinstance(mart, DailyMart):
                continue
            try:
                there = marts.daily_sums(self._warehouse, mart)
            except AccountingError as error:
                found.append(Violation(str(error), 1))
                continue
            mine = only(self._by_business_day(rows, mart.replaced), mart.kinds)
            if not mart.has_amounts:
                mine = {group: total._replace(krw=0) for group, total in mine.items()}
            found += a5_sums(mine, marts.mart(mart.name), there)
        return found

    def _by_business_day(self, rows: pa.Table, replaced: bool) -> Sums:
        if replaced not in self._daily_sums:
            counted = not_replaced(rows, (self._contract.key, self._contract.sums.kind)) if replaced else rows
            counted = with_business_date(counted, marts.business_timezone())
            self._daily_sums[replaced] = sums(counted, self._measure, day="business_date")
        return self._daily_sums[replaced]
