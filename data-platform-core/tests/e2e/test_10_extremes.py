"""Every record that satisfies its contract passes every stage: thousands of extreme records in the real stack.

The records are derived from the contracts (tests/support); an independent oracle states the expected outcome of each.
They are sent in two halves, so that load and marts run once on empty tables and once on existing rows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import oracle
import pytest
from arrivals import arrivals, fuzzed
from avro_wire import framed
from extremes import Arrival, Example, combinations, singles
from good_records import good_records
from pipeline import Pipeline
from sending import LedgerRun

from data_platform_core.accounting.lake_reader import LakeReader
from data_platform_core.accounting.verdict import unpack
from data_platform_core.contracts import Contract
from data_platform_core.kafka.dlq import read_dlq
from data_platform_core.kafka.registry import RegistryClient
from data_platform_core.wire.ledger import Injected

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2400)]

#: Records may arrive this much later than they were made, ms: values near a bound that depends on arrival are avoided.
SLACK_MS = 30 * 60_000
COMBINATIONS = 400
FUZZED = 100
FOREIGN = "foreign"
RUNS = ("extremes-1", "extremes-2")
#: Either outcome is allowed, but exactly one.
EITHER = None


@dataclass(frozen=True)
class Fate:
    """The expected outcome of a record: the reasons its dead letter may have, none for a row of silver, or EITHER."""

    reasons: frozenset[str] | None


class Sender:
    """Sends the extremes of one run and keeps the expected outcome of each, by entity and label."""

    def __init__(self, run: LedgerRun, contracts: dict[str, Contract], schema_ids: dict[str, int]) -> None:
        self.fates: dict[tuple[str, str], Fate] = {}
        self._run, self._contracts, self._ids = run, contracts, schema_ids

    def examples(self, found: list[Example], arrival: Arrival) -> None:
        for number, example in enumerate(found):
            contract = self._contracts[example.entity]
            record = self._of_its_send(example)
            reasons = oracle.broken(contract, record, arrival.ms)
            label = f"{number} {example.label}"
            self.fates[example.entity, label] = Fate(reasons)
            value = framed(contract.avro, self._ids[example.entity], record)
            key = str(record[contract.key]).encode()[:1000]
            if example.is_foreign:
                self._run.send_foreign(example.entity, label, key, value)
            else:
                late = not reasons and oracle.late(contract, record, arrival.ms)
                kind = Injected.POISON if reasons else Injected.LATE if late else Injected.NONE
                self._run.send(example.entity, label, key, value, kind)

    def arrivals(self, contract: Contract, good: list[oracle.Record]) -> None:
        entity = contract.entity
        others = {name: number for name, number in self._ids.items() if name != entity}
        own, strangers = self._events(entity, good, "a"), self._events(entity, good, "f", FOREIGN)
        for one in arrivals(contract, own, strangers, self._ids[entity], others):
            self.fates[entity, one.label] = Fate(one.reasons)
            if one.headers is None:
                kind = Injected.POISON if one.reasons else Injected.NONE
                self._run.send(entity, one.label, one.key, one.value, kind)
            else:
                self._run.send_foreign(entity, one.label, one.key, one.value, one.headers)
        bodies = (framed(contract.avro, self._ids[entity], record) for record in strangers)
        for number, value in enumerate(fuzzed(bodies, FUZZED, seed=1)):
            self.fates[entity, f"fuzzed {number}"] = Fate(EITHER)
            self._run.send_foreign(entity, f"fuzzed {number}", b"1", value)

    def _events(
        self, entity: str, good: list[oracle.Record], mark: str, run_id: str | None = None
    ) -> Iterator[oracle.Record]:
        """Endless good records, each its own event; of the run's next send unless they are of another run."""
        for number in count():
            record = good[number % len(good)]
            event_id = f"{mark}{number:07x}{record['event_id'][8:]}"
            yield record | {
                "event_id": event_id,
                "seq": self._run.next_seq(entity),
                "run_id": run_id or record["run_id"],
            }

    def _of_its_send(self, example: Example) -> oracle.Record:
        if not example.is_foreign:
            return example.record | {"seq": self._run.next_seq(example.entity)}
        return example.record | ({} if "run_id" in example.fields else {"run_id": FOREIGN})


@pytest.fixture(scope="module")
def schema_ids(pipeline: Pipeline, contracts: dict[str, Contract]) -> dict[str, int]:
    registry = RegistryClient(pipeline.settings("streaming").registry)
    return {entity: max(registry.writer_schemas(contract)) for entity, contract in contracts.items()}


@pytest.mark.parametrize("half", [0, 1])
def test_extremes_pass_every_stage_or_are_dead_letters(
    pipeline: Pipeline, contracts: dict[str, Contract], schema_ids: dict[str, int], half: int, tmp_path: Path
) -> None:
    began = time.monotonic()
    now = int(time.time() * 1000)
    arrival, run_id = Arrival(now, SLACK_MS), f"{RUNS[half]}-{now}"
    run = LedgerRun(pipeline.settings("generator"), run_id, contracts)
    sender = Sender(run, contracts, schema_ids)
    bases = good_records(contracts, now, run_id)
    for entity, contract in contracts.items():
        found = singles(contract, bases[entity], arrival, huge=True)
        found += combinations(contract, bases[entity], arrival, COMBINATIONS, len(found))
        sender.examples(found[half::2], arrival)
        if half == 0:
            sender.arrivals(contract, bases[entity])
    run.close()
    sent = Counter("kept" if fate.reasons == frozenset() else "dead" for fate in sender.fates.values())
    print(f"{run_id}: {len(sender.fates):,} records, {sent['kept']:,} of them good; {time.monotonic() - began:.0f} s")
    pipeline.drain()
    pipeline.load_and_build()
    report = pipeline.reconcile(run_id, tmp_path / "report.json")
    assert report["code"] == 0, report["printed"]
    assert wrong_fates(pipeline, contracts, run, sender) == []
    print(f"{run_id}: drained, loaded, built and reconciled after {time.monotonic() - began:.0f} s")


def wrong_fates(pipeline: Pipeline, contracts: dict[str, Contract], run: LedgerRun, sender: Sender) -> list[str]:
    """Records that are not where they must be, with what was expected."""
    wrong = []
    settings = pipeline.settings("accounting")
    for entity, contract in contracts.items():
        silver = {unpack(packed) for packed in LakeReader(settings.object_store, contract).silver_positions().tolist()}
        dead = {
            (letter.source.partition, letter.source.offset): letter.reason for letter in read_dlq(settings, contract)
        }
        for (of, label), fate in sender.fates.items():
            if of != entity:
                continue
            place = run.places[entity, label]
            kept, reason = place in silver, dead.get(place)
            one = kept != (reason is not None)
            right = fate.reasons is EITHER or (kept and not fate.reasons) or reason in fate.reasons
            if not one or not right:
                wrong.append(f"{entity} {label}: silver {kept}, reason {reason}; expected {fate.reasons}")
    return wrong
