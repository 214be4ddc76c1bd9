"""Reconcile a run: read every stage by a reader of its own, evaluate A1-A8, say PASS or what is missing.

Order matters, because streams may be under way: the ledger is read first, then the topics' ends, and every table
afterwards and only up to those ends. So what the ledger says was written must be found, and what came later is no
violation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import psycopg
from rich.console import Console

from data_platform_core.accounting import equations
from data_platform_core.accounting.content.copies import copying
from data_platform_core.accounting.content.engine import comparing
from data_platform_core.accounting.content.lake import check_lake
from data_platform_core.accounting.content.warehouse import check_warehouse
from data_platform_core.accounting.equations import Layers, Ledger, positions_of
from data_platform_core.accounting.lake_reader import LakeReader
from data_platform_core.accounting.ledger_reader import RunLedger, read_ledger
from data_platform_core.accounting.liveness import Marks, topic_marks, wait_until_drained
from data_platform_core.accounting.report import EntityCounts, Finding, Report, plain_console, render, write_json
from data_platform_core.accounting.verdict import EXAMPLES, Longs, Violation, halves, pack
from data_platform_core.accounting.warehouse_sums import WarehouseSums
from data_platform_core.contracts import Contract, load_contracts
from data_platform_core.errors import AccountingError
from data_platform_core.kafka.committed import Gap, undelivered
from data_platform_core.kafka.dlq import read_dlq
from data_platform_core.kafka.registry import RegistryClient
from data_platform_core.naming import landing_prefix
from data_platform_core.settings import Settings
from data_platform_core.warehouse.connections import connect
from data_platform_core.wire.dead_letters import DeadLetter
from data_platform_core.wire.ledger import Outcome

#: How long a run may take from its last record to silver, seconds: the slowest trigger is 17 s.
DRAIN_WITHIN_S = 60.0
_MS_PER_MINUTE = 60_000

OnStep = Callable[[str], None]


def run(settings: Settings, run_id: str, json_file: Path | None = None, wait_s: float = DRAIN_WITHIN_S) -> Report:
    """Print the report of a run, and write it to `json_file`.

    Raises AccountingError when an equation does not hold, ServiceError when a stage can't be read.
    """
    with Console(stderr=True).status(f"reconciling {run_id}") as status:
        report = reconcile(settings, load_contracts(), run_id, wait_s, lambda what: status.update(f"{run_id}: {what}"))
    render(report, plain_console())
    if json_file:
        write_json(report, json_file)
    if not report.passed:
        broken = ", ".join(sorted({finding.equation for finding in report.findings if finding.violations}))
        raise AccountingError(f"run {run_id} is not accounted for ({broken}); the report names what is wrong")
    return report


def reconcile(
    settings: Settings,
    contracts: Mapping[str, Contract],
    run_id: str,
    wait_s: float = DRAIN_WITHIN_S,
    on_step: OnStep = lambda what: None,
) -> Report:
    """Evaluate every equation for a run. `on_step` receives the current step. Raises ServiceError, or AccountingError
    when the run has no ledger."""
    counts, compared, compared_s = [], 0, 0.0
    # Connected first, though read last: a wrong password fails before the long steps.
    with connect(settings.postgres, "crm-reconcile", autocommit=True) as warehouse:
        on_step("reading the ledger")
        ledger = read_ledger(settings.object_store, run_id)
        drained = wait_until_drained(
            settings, contracts, wait_s, lambda lags: on_step(f"waiting for {', '.join(lags)}" if lags else "drained")
        )
        findings = [Finding("A7", entity, (_late(lag, wait_s),)) for entity, lag in drained.waiting.items()]
        findings.append(Finding("A8", "ledger", _overwritten(ledger)))
        for entity, contract in contracts.items():
            on_step(f"accounting for {entity}")
            entity_run = _EntityRun(settings, contract, run_id, ledger, drained.marks[entity], warehouse)
            findings += entity_run.findings()
            counts.append(entity_run.counts())
            on_step(f"comparing the content of {counts[-1].bronze:,} {entity}")
            began = time.monotonic()
            findings.append(Finding("A8", entity, entity_run.content()))
            compared, compared_s = compared + counts[-1].bronze, compared_s + time.monotonic() - began
    return Report(run_id, tuple(counts), tuple(findings), drained.seconds, ledger.unfinished, compared, compared_s)


def _overwritten(ledger: RunLedger) -> tuple[Violation, ...]:
    keys = ledger.overwritten
    if not keys:
        return ()
    return (Violation("objects of the ledger that were written again or deleted", len(keys), keys[:EXAMPLES]),)


def _late(lag: int, wait_s: float) -> Violation:
    return Violation(f"records not yet in bronze and silver after {wait_s:g} s (0: its tables lag alone)", lag)


class _EntityRun:
    """One entity of the run: reads its stages once, then judges."""

    def __init__(
        self,
        settings: Settings,
        contract: Contract,
        run_id: str,
        ledger: RunLedger,
        marks: Marks,
        warehouse: psycopg.Connection,
    ) -> None:
        self._settings = settings
        self._contract = contract
        self._run_id = run_id
        self._marks = marks
        self._warehouse = warehouse
        self._schemas = RegistryClient(settings.registry).writer_schemas(contract, "skip")
        self._lake = LakeReader(settings.object_store, contract)
        self._ledger = ledger.of(contract.entity)
        # Silver first: what it holds, bronze holds too by the time that is read, up to the marks.
        self._silver_positions = self._until_marks(self._lake.silver_positions())
        self._all_bronze = self._lake.bronze_positions()
        self._layers = self._read_layers(run_id)
        # A producer under way has sent more since the ledger was read: what bronze holds now, it knows now.
        later = read_ledger(settings.object_store, run_id).of(contract.entity) if ledger.unfinished else self._ledger
        self._later_ledger = later
        self._landed = WarehouseSums(settings, contract, run_id, self._lake, warehouse).judge()

    def _until_marks(self, positions: Longs) -> Longs:
        partitions, offsets = halves(positions)
        # What came by files has no topic to wait for: partitions below 0 (landing.py).
        inside = partitions < 0
        for number, (_, end) in self._marks.items():
            inside |= (partitions == number) & (offsets < end)
        return positions[inside]

    def _read_layers(self, run_id: str) -> Layers:
        contract = self._contract
        silver = self._lake.silver_of(run_id)
        silver = silver.filter(np.isin(positions_of(silver, "kafka_"), self._silver_positions))
        bronze = self._lake.bronze_of(run_id)
        bronze_positions = self._until_marks(self._all_bronze)
        bronze = bronze.filter(np.isin(positions_of(bronze), bronze_positions))
        dead = dead_positions(contract.names.topic, read_dlq(self._settings, contract, run_id), run_id)
        dead = self._until_marks(dead)
        left = equations.unplaced(bronze, self._silver_positions, dead)
        return Layers(
            bronze=bronze,
            silver=silver,
            silver_positions=self._silver_positions,
            bronze_positions=bronze_positions,
            dlq_positions=dead,
            repeats=self._lake.repeats(run_id, left, self._schemas),
            dedup_window_ms=contract.silver.dedup_window_minutes * _MS_PER_MINUTE,
        )

    def findings(self) -> list[Finding]:
        entity, topic = self._contract.entity, self._contract.names.topic
        ends_after = topic_marks(self._settings, {entity: self._contract})[entity]
        landed = equations.landed_marks(self._all_bronze, self._ledger)
        ends = {number: end for number, (_, end) in (ends_after | landed).items()}
        found = {
            "A1": equations.a1_no_loss(self._ledger, self._layers.bronze),
            "A2": equations.a2_no_invention(self._later_ledger, self._layers.bronze),
            "A3": equations.a3_offsets(
                topic, self._all_bronze, {**self._marks, **landed}, ends, self._undelivered(topic)
            ),
            "A4": equations.a4_conservation(self._later_ledger, self._layers),
            "A5": self._landed.violations,
            "A6": equations.a6_order(topic, self._layers.bronze),
        }
        return [Finding(equation, entity, tuple(violations)) for equation, violations in found.items()]

    def _undelivered(self, topic: str) -> list[Gap]:
        """The gaps in bronze that no consumer receives. Most topics have no gap, so Kafka is not queried."""
        gaps = [Gap(*gap) for gap in equations.offset_gaps(self._all_bronze, self._marks)]
        return undelivered(self._settings.kafka, topic, gaps) if gaps else []

    def content(self) -> tuple[Violation, ...]:
        """A8: the run's rows at every stage, value by value."""
        with comparing() as engine, copying(engine.folder, self._warehouse, self._contract, self._run_id) as copies:
            return (
                *check_lake(engine, self._lake, self._contract, self._run_id, self._later_ledger, self._schemas),
                *check_warehouse(engine, copies),
            )

    def counts(self) -> EntityCounts:
        layers = self._layers
        late = int(np.count_nonzero(layers.silver["is_late"].to_numpy()))
        return EntityCounts(
            entity=self._contract.entity,
            produced=produced(self._ledger),
            acknowledged=len(self._ledger.of(Outcome.OK)),
            bronze=len(layers.bronze),
            silver=len(layers.silver) - late,
            late=late,
            dlq=len(layers.dlq_positions),
            duplicates=sum(1 for original in layers.repeats.values() if original != equations.NOWHERE),
            warehouse=self._landed.landing,
            marts=self._landed.marts,
        )


def produced(ledger: Ledger) -> int:
    """Sends: as the producers counted them, or, of one that did not end cleanly, as many as have a row."""
    closed = sum(ledger.sent.values())
    open_rows = ledger.sends[~np.isin(halves(ledger.sends)[0], list(ledger.sent))]
    return closed + len(open_rows)


def dead_positions(topic: str, letters: list[DeadLetter], run_id: str = "") -> Longs:
    """Packed positions of the originals. Raises AccountingError for a dead letter of another topic."""
    mine = (topic, landing_prefix(run_id))
    stray = next((letter for letter in letters if letter.source.topic not in mine), None)
    if stray:
        raise AccountingError(
            f"DLQ of {topic} holds a dead letter of {stray.source}; is another producer writing to it?"
        )
    partitions = np.array([letter.source.partition for letter in letters], dtype=np.int64)
    offsets = np.array([letter.source.offset for letter in letters], dtype=np.int64)
    return pack(partitions, offsets)
