"""One run of one producer: check everything, send the catalogue, follow the scenario, settle the ledger.

`produced_ts` of a record is the time at which it was due, not the time at which a sender running late got round to
it: latency measured from it includes the wait (no coordinated omission). In a flood nothing is due, and it is the time
of sending.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from data_generator.ledger import Account, Ledger, new_summary
from data_generator.ledger_store import LedgerStore
from data_generator.load.pacing import MAX_BATCH, Pacer
from data_generator.load.shapes import due_times
from data_generator.model import Model
from data_generator.scenario import Scenario
from data_generator.sinks.kafka import DELIVERY_TIMEOUT_MS, KafkaSink
from data_platform_core.contracts import Contract, load_contracts
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.settings import Settings

_RUN_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
#: Seconds between looks at progress and metrics.
REPORT_S = 0.5
#: What a flood plans for when it reserves numbers, records/s: the fastest that was seen.
FLOOD_RATE = 60_000
#: After this long without a settled record the end of a run gives up waiting: no broker answered in time.
DRAIN_S = DELIVERY_TIMEOUT_MS / 1000 + 10


@dataclass
class Status:
    """What a run says about itself while it runs; rates are records/s, times seconds."""

    run_id: str
    phase: str = "starting"
    target_rate: float | None = None
    duration_s: float | None = None
    planned: int | None = None
    started: float = field(default_factory=time.monotonic)
    sent: int = 0
    acked: int = 0
    failed: int = 0
    unknown: int = 0
    catalogue: int = 0
    buffered: int = 0
    behind_s: float = 0.0
    worst_behind_s: float = 0.0
    elapsed_s: float = 0.0
    achieved_rate: float = 0.0


Report = Callable[[Status], None]


def check_run_id(run_id: str) -> str:
    """`run_id`, or ConfigurationError when it can't be part of an object key, a header and a client id."""
    if not _RUN_ID.fullmatch(run_id) or set(run_id) <= {"."}:
        raise ConfigurationError(f"run id {run_id!r}: use 1 to 100 characters of A-Z a-z 0-9 . _ -")
    return run_id


def default_run_id(name: str) -> str:
    """`<scenario>-<UTC time>`."""
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


class Run:
    """Holds the parts of one run together. `stop` may be called from a signal handler."""

    def __init__(
        self,
        settings: Settings,
        scenario: Scenario,
        run_id: str,
        producer_id: int,
        report: Report = lambda status: None,
    ) -> None:
        self._settings, self._scenario = settings, scenario
        self._run_id, self._producer_id = check_run_id(run_id), producer_id
        self._report, self._next_report = report, 0.0
        self._stopping = False
        self.status = Status(run_id)
        self.accounts: list[Account] = []

    def stop(self) -> None:
        """Send nothing more; settle what was sent."""
        self._stopping = True

    def paced(self) -> Status:
        """The scenario, open-loop, until its duration is over or `stop`. Raises UserError subclasses."""
        scenario = self._scenario
        self.status.duration_s = scenario.duration_s
        with self._open(load_contracts(), scenario.rate.high) as (model, sink, ledger):
            self._send_catalogue(model, sink, ledger)
            start = datetime.now(UTC)
            shape = scenario.shape(start)
            start_ms = int(start.timestamp() * 1000)
            pacer = Pacer(due_times(shape, scenario.duration_s))
            self._phase("sending")
            self.status.target_rate = shape.rate(0)
            while not self._stopping and not pacer.finished:
                ledger.tick(MAX_BATCH, sink.poll)
                for due in pacer.take():
                    send = model.next(start_ms + int(due * 1000))
                    self._send(model, sink, send)
                sink.poll()
                self._look(sink, pacer, shape.rate(pacer.elapsed_s))
        return self.status

    def flood(self, entity: str, count: int) -> Status:
        """`count` unique good records of one entity as fast as the brokers take them, or until `stop`."""
        contracts = load_contracts()
        if entity not in contracts:
            raise ConfigurationError(f"entity {entity!r} has no contract; known: {', '.join(contracts)}")
        self.status.planned = count
        with self._open(contracts, FLOOD_RATE, only=entity) as (model, sink, ledger):
            self._phase("sending")
            index = next(i for i, lane in enumerate(model.lanes) if lane.entity == entity)
            lane, account, source = model.lanes[index], self.accounts[0], model.flood(entity)
            topic, frame, envelope, seq = lane.contract.names.topic, lane.frame, lane.envelope, 0
            while not self._stopping and seq < count:
                ledger.tick(MAX_BATCH, sink.poll)
                now = int(time.time() * 1000)
                for number in range(seq, min(seq + MAX_BATCH, count)):
                    key, payload = next(source)
                    sink.send(account, topic, number, key, frame + envelope(number, now, now) + payload)
                seq = min(seq + MAX_BATCH, count)
                sink.poll()
                self._look(sink, None, None)
        return self.status

    @contextmanager
    def _open(
        self, contracts: dict[str, Contract], rate: float, only: str | None = None
    ) -> Iterator[tuple[Model, KafkaSink, Ledger]]:
        """Preflight, then the parts of the run; on leaving, however that is, the ledger is settled."""
        used = {entity: contract for entity, contract in contracts.items() if only in (None, entity)}
        schema_ids = self._preflight(used)
        model = Model(
            self._scenario, contracts, {entity: 0 for entity in contracts} | schema_ids, self._run_id, self._producer_id
        )
        scenario = self._scenario
        summary = new_summary(
            self._run_id, self._producer_id, scenario.name, scenario.seed, None if only else scenario.rate.high
        )
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
        """Topics and registry as the contracts want them, before anything is sent. Schema ids by entity."""
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
                self._look(sink, None, None)
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
            self._look(sink, None, None)
        sink.abandon()
        status = self.status
        self._update(sink)
        status.achieved_rate = (status.acked - status.catalogue) / status.elapsed_s if status.elapsed_s > 0 else 0.0
        ledger.close(round(status.achieved_rate, 1))
        self._phase("done")

    def _phase(self, name: str) -> None:
        self.status.phase = name
        if name == "sending":
            self.status.started = time.monotonic()
        self._report(self.status)

    def _look(self, sink: KafkaSink, pacer: Pacer | None, target: float | None) -> None:
        now = time.monotonic()
        if now < self._next_report:
            return
        self._next_report = now + REPORT_S
        if pacer:
            self.status.behind_s, self.status.worst_behind_s = pacer.behind_s, pacer.worst_behind_s
            self.status.target_rate = target
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
