"""One run of one producer: check everything, send the catalogue, follow the scenario, settle the ledger.

`produced_ts` of a record is its due time, not the time at which a late sender sent it: latency measured from it
includes the wait (no coordinated omission). A flood has no schedule; there it is the time of sending.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from math import inf
from typing import Any

from data_generator.ledger import Account, Ledger, new_summary
from data_generator.ledger_store import LedgerStore
from data_generator.load.pacing import MAX_BATCH, Pacer
from data_generator.load.shapes import ALONE, Shape, Share, due_by, due_times, phase_at
from data_generator.load.tally import Tally
from data_generator.model import Model
from data_generator.scenario import Scenario
from data_generator.sinks.kafka import DELIVERY_TIMEOUT_MS, KafkaSink
from data_generator.status import Counts, Status
from data_platform_core.contracts import Contract, load_contracts
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.settings import Settings
from data_platform_core.wire.ledger import check_run_id

#: Seconds between updates of progress and metrics.
REPORT_S = 0.5
#: Rate for which a flood reserves numbers, records/s: the highest observed.
FLOOD_RATE = 60_000
#: Seconds without a settled record after which the end of a run stops waiting: no broker answered in time.
DRAIN_S = DELIVERY_TIMEOUT_MS / 1000 + 10


Report = Callable[[Status], None]
#: Called when all is ready to send; returns the moment at which the schedule begins, None to send nothing.
Gate = Callable[[], datetime | None]


def default_run_id(name: str) -> str:
    """`<scenario>-<UTC time>`."""
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def _on_monotonic_clock(moment: datetime) -> float:
    return time.monotonic() + (moment - datetime.now(UTC)).total_seconds()


class Run:
    """One run and its parts. `stop` may be called from a signal handler."""

    model_kind: type[Model] = Model

    def __init__(
        self,
        settings: Settings,
        scenario: Scenario,
        run_id: str,
        producer_id: int,
        report: Report = lambda status: None,
        share: Share = ALONE,
        gate: Gate = lambda: datetime.now(UTC),
    ) -> None:
        self._settings, self._scenario = settings, scenario
        self._run_id, self._producer_id = check_run_id(run_id), producer_id
        self._report, self._next_report = report, 0.0
        self._share, self._gate = share, gate
        self._stopping = False
        self._tally: Tally | None = None
        self.status = Status(run_id, scenario.name)
        self.accounts: list[Account] = []

    @property
    def counts(self) -> list[Counts]:
        """Outcomes of the sends so far, by entity."""
        return [Counts(a.entity, a.sent, a.acked, a.failed, a.unknown) for a in self.accounts]

    def stop(self) -> None:
        """Send nothing more; settle pending sends."""
        self._stopping = True

    def paced(self) -> Status:
        """The scenario, open-loop, until its duration is over or `stop`. Raises UserError subclasses."""
        scenario, share = self._scenario, self._share
        duration_s = self.status.duration_s = scenario.lasts_s
        with self._open(load_contracts(), scenario.rate.high / share.of) as (model, sink, ledger):
            self._send_catalogue(model, sink, ledger)
            start = self._begin()
            if start is None:
                return self.status
            start_ms, begun = int(start.timestamp() * 1000), _on_monotonic_clock(start)
            shape = scenario.shape(start)
            self._tally = Tally(shape, duration_s, share)
            self.status.stages = shape.phases
            pacer = Pacer(due_times(shape, duration_s, share), start=begun)
            self._phase("sending")
            self.status.started = begun
            while not self._stopping and not pacer.finished:
                ledger.tick(MAX_BATCH, sink.poll)
                for due in pacer.take():
                    send = model.next(start_ms + int(due * 1000))
                    self._send(model, sink, send)
                sink.poll()
                self._follow(sink, pacer, shape)
            self.status.due = due_by(shape, min(pacer.elapsed_s, duration_s or inf), share)
            self.status.phases = self._tally.phases(pacer.elapsed_s)
        return self.status

    def flood(self, entity: str, count: int, lines: int | None = None) -> Status:
        """Send `count` unique good records of one entity as fast as the brokers accept them, or until `stop`.

        `lines`: average lines of an order; see `Model.flood`.
        """
        contracts = load_contracts()
        if entity not in contracts:
            raise ConfigurationError(f"entity {entity!r} has no contract; known: {', '.join(contracts)}")
        share = self._share
        count = count // share.of + (share.number < count % share.of)
        self.status.planned = count
        with self._open(contracts, FLOOD_RATE, only=entity) as (model, sink, ledger):
            if self._begin() is None:
                return self.status
            self._phase("sending")
            index = next(i for i, lane in enumerate(model.lanes) if lane.entity == entity)
            lane, account, source = model.lanes[index], self.accounts[0], model.flood(entity, lines)
            topic, frame, envelope, seq = lane.contract.names.topic, lane.frame, lane.envelope, 0
            while not self._stopping and seq < count:
                ledger.tick(MAX_BATCH, sink.poll)
                now, end = int(time.time() * 1000), min(seq + MAX_BATCH, count)
                records = [
                    (key, frame + envelope(number, now, now) + payload)
                    for number, (key, payload) in zip(range(seq, end), source, strict=False)
                ]
                sink.send_all(account, topic, seq, records)
                seq = end
                sink.poll()
                self._look(sink)
        return self.status

    def _begin(self) -> datetime | None:
        """Wait for the start."""
        self._phase("ready")
        return None if self._stopping else self._gate()

    @contextmanager
    def _open(
        self, contracts: dict[str, Contract], rate: float, only: str | None = None
    ) -> Iterator[tuple[Model, KafkaSink, Ledger]]:
        """Preflight, then the parts of the run; the ledger is settled on every exit."""
        used = {entity: contract for entity, contract in contracts.items() if only in (None, entity)}
        schema_ids = self._preflight(used)
        scenario = self._scenario.among(self._share.of)
        model = self.model_kind(
            scenario, contracts, {entity: 0 for entity in contracts} | schema_ids, self._run_id, self._producer_id
        )
        summary = new_summary(self._run_id, self._producer_id, scenario.name, scenario.seed, None if only else rate)
        store = LedgerStore(self._settings.object_store, self._run_id, self._producer_id)
        ledger = Ledger(store, list(used), summary, rate)
        self.accounts = ledger.accounts
        ledger.open()
        sink = KafkaSink(self._settings.kafka, self._run_id, self._producer_id)
        try:
            yield model, sink, ledger
        finally:
            self._settle(sink, ledger)

    def _preflight(self, contracts: dict[str, Contract]) -> dict[str, int]:
        """Check topics and registry against the contracts, before anything is sent. Returns schema ids by entity."""
        from data_platform_core.kafka.registry import RegistryClient
        from data_platform_core.kafka.topics import verify_topics

        self._phase("checking topics and registry")
        verify_topics(self._settings, contracts)
        registry = RegistryClient(self._settings.registry)
        return {entity: registry.schema_id(contract) for entity, contract in contracts.items()}

    def _send_catalogue(self, model: Model, sink: KafkaSink, ledger: Ledger) -> None:
        """Products and profiles, all acknowledged before the first record that refers to them."""
        self._phase("sending catalogue")
        for send in model.catalogue(int(time.time() * 1000)):
            if self._stopping:
                return
            if self.status.catalogue % MAX_BATCH == 0:
                ledger.tick(MAX_BATCH, sink.poll)
                self._look(sink)
            self._send(model, sink, send)
            self.status.catalogue += 1
        left = sink.drain(DRAIN_S)
        if left or any(account.failed or account.unknown for account in self.accounts):
            raise ServiceError(
                f"Kafka {self._settings.kafka.bootstrap_servers} did not acknowledge the catalogue "
                f"({left} of {self.status.catalogue} open); check the brokers, then start a new run"
            )

    def _send(self, model: Model, sink: KafkaSink, send: tuple[int, int, bytes, bytes, int]) -> None:
        lane, seq, key, value, injected = send
        account = self.accounts[lane]
        if injected:
            account.injected[seq] = injected
        sink.send(account, model.lanes[lane].contract.names.topic, seq, key, value)

    def _settle(self, sink: KafkaSink, ledger: Ledger) -> None:
        self._phase("settling")
        deadline = time.monotonic() + DRAIN_S
        while sink.drain(REPORT_S) and time.monotonic() < deadline:
            self._look(sink)
        sink.abandon()
        self._update(sink)
        self.status.stage = None
        ledger.close(self._outcome())
        self._phase("done")

    def _outcome(self) -> dict[str, Any]:
        """Fields of the ledger's final summary besides the counts."""
        status = self.status
        outcome: dict[str, Any] = {"achieved_rate": round(status.achieved_rate, 1)}
        if self._tally:
            outcome |= {"due": status.due, "worst_behind_s": round(status.worst_behind_s, 3), "phases": status.phases}
        return outcome

    def _phase(self, name: str) -> None:
        self.status.phase = name
        if name == "sending":
            self.status.started = time.monotonic()
        self._report(self.status)

    def _follow(self, sink: KafkaSink, pacer: Pacer, shape: Shape) -> None:
        """Update the tally and check the schedule."""
        assert self._tally is not None
        status, elapsed_s = self.status, pacer.elapsed_s
        self._tally.mark(elapsed_s, sum(account.acked for account in self.accounts) - status.catalogue)
        status.behind_s, status.worst_behind_s = pacer.behind_s, pacer.worst_behind_s
        if time.monotonic() < self._next_report:
            return
        status.target_rate, status.stage = shape.rate(elapsed_s) / self._share.of, phase_at(shape, elapsed_s)
        self._look(sink)

    def _look(self, sink: KafkaSink) -> None:
        """Report, every REPORT_S."""
        now = time.monotonic()
        if now < self._next_report:
            return
        self._next_report = now + REPORT_S
        self._update(sink)
        self._report(self.status)

    def _update(self, sink: KafkaSink) -> None:
        status, accounts = self.status, self.accounts
        status.sent = sum(account.sent for account in accounts)
        status.acked = sum(account.acked for account in accounts)
        status.failed = sum(account.failed for account in accounts)
        status.unknown = sum(account.unknown for account in accounts)
        status.buffered = sink.buffered
        if status.phase in ("sending", "settling"):
            status.elapsed_s = time.monotonic() - status.started
            if status.elapsed_s > 0:
                status.achieved_rate = (status.acked - status.catalogue) / status.elapsed_s
