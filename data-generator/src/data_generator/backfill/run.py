"""A backfill, chunk by chunk, so that a kill at any moment costs only the recovery of one chunk.

A chunk is `chunk_records` sends in the history's order; the first is catalogue and customers. Per chunk:

1. one object (the summary, with the mark) records that the previous chunks are done and reserves this one's numbers;
2. the records are sent, and all are acknowledged;
3. the rows of the ledger are written, one part per entity, named by the chunk.

After a kill at any point, the next process generates the same sends again, without sending up to the mark. Of the
unfinished chunk it sends the records that the target lacks. An existing part of the chunk is
kept, because its rows are the same (ADR 0009).
"""

from __future__ import annotations

import fcntl
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from data_generator.backfill.history import History, HistoryModel
from data_generator.backfill.landing import LandingTarget, claim_number
from data_generator.backfill.mark import Mark, Offsets, mark_of
from data_generator.backfill.plan import Wish
from data_generator.backfill.tail import topic_ends
from data_generator.backfill.targets import KafkaTarget, Target
from data_generator.ledger import Account, new_summary
from data_generator.ledger_store import LedgerStore
from data_generator.model import Send
from data_generator.run import REPORT_S, Report, Run
from data_generator.status import Status
from data_platform_core.contracts import load_contracts
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.settings import Settings
from data_platform_core.wire.ledger import ProducerSummary, check_run_id

#: A backfill is one process: its order is what makes it resumable.
PRODUCER_ID = 0
#: Acknowledgements are served after this many sends.
_POLL_EVERY = 500


@dataclass(frozen=True)
class Begin:
    """The start of a run, new or resumed. `summary` is the previous process's; None for a new run."""

    run_id: str
    mark: Mark
    store: LedgerStore
    summary: ProducerSummary | None = None


def begin(settings: Settings, wish: Wish, run_id: str, resume: bool) -> Begin:
    """Check the run id and, for a resumed run, the options against the run's plan.

    Raises ConfigurationError for a used run id, one that can't be resumed, or parameters other than the run's own.
    """
    store = LedgerStore(settings.object_store, check_run_id(run_id), PRODUCER_ID)
    if not resume:
        plan = wish.plan()
        try:
            store.claim()
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}, or go on with it by --resume") from None
        return Begin(run_id, Mark(plan=plan, produced_ms=int(time.time() * 1000)), store)
    summary = store.read_summary()
    mark = mark_of(summary, run_id)
    different = wish.plan(mark.plan).differences(mark.plan)
    if different:
        raise ConfigurationError(f"run {run_id!r} can't be resumed with other parameters: {'; '.join(different)}")
    return Begin(run_id, mark, store, summary)


class BackfillRun(Run):
    """One process of a backfill."""

    def __init__(self, settings: Settings, start: Begin, report: Report = lambda status: None) -> None:
        plan = start.mark.plan
        super().__init__(settings, plan.scenario.scenario(plan.scale), start.run_id, PRODUCER_ID, report)
        self._plan, self._mark, self._store = plan, start.mark, start.store
        self._summary = start.summary or new_summary(start.run_id, PRODUCER_ID, plan.scenario.name, 0, None).model_copy(
            update={"seed": plan.scenario.seed}
        )
        self._resumed = start.summary is not None
        self._contracts = load_contracts()
        self.accounts = [Account(entity) for entity in self._contracts]
        population = plan.scenario.population
        self._catalogue = population.products + population.profiles
        self.status.planned = plan.planned + self._catalogue

    @property
    def day(self) -> str:
        """The day under way."""
        return str(self._history.day) if hasattr(self, "_history") else str(self._plan.first)

    def fill(self) -> Status:
        """Send the remaining records, or until `stop`. Raises UserError subclasses; the run can then be resumed."""
        if self._summary.finished:
            self._phase("done already")
            return self.status
        with self._only_one():
            schema_ids = self._preflight(self._contracts)
            model = HistoryModel(
                self._plan, self._contracts, schema_ids, self.status.run_id, PRODUCER_ID, self._mark.produced_ms
            )
            self._history = History(self._plan, model)
            self._target = self._open_target()
            chunks = self._chunks()
            if self._resumed:
                self._replay(chunks, model)
            else:
                self._advance(model, topic_ends(self._settings.kafka, self._contracts.values()))
            self._phase("sending")
            for chunk in chunks:
                if self._stopping:
                    raise ServiceError(
                        f"stopped in {self.day} after {self._mark.sends:,} of {self.status.planned:,} records; go on "
                        f"with `crm-generator backfill --resume --run-id {self.status.run_id}`"
                    )
                self._chunk(chunk)
                self._advance(model, self._ends)
            self._finish()
        return self.status

    def _open_target(self) -> Target:
        run_id = self.status.run_id
        if self._plan.sink == "kafka":
            return KafkaTarget(self._settings.kafka, self._contracts, run_id, PRODUCER_ID)
        if self._mark.landing is None:
            self._mark = self._mark.model_copy(update={"landing": claim_number(self._store, run_id)})
        return LandingTarget(self._store, run_id, PRODUCER_ID, self._mark.landing or 0)

    def _chunks(self) -> Iterator[Iterator[Send]]:
        """The sends of each chunk; consume them in order, each to its end."""
        yield self._history.catalogue()
        traffic, size, left = self._history.traffic(), self._plan.scenario.chunk_records, self._plan.planned
        while left > 0:
            yield islice(traffic, size)
            left -= size

    def _replay(self, chunks: Iterator[Iterator[Send]], model: HistoryModel) -> None:
        """Regenerate the finished chunks, then recover the unfinished one."""
        mark = self._mark
        self._phase("replaying")
        for _ in range(mark.chunks):
            for _send in next(chunks):
                pass
            self._show()
        if model.state() != mark.state:
            raise ConfigurationError(
                f"run {self.status.run_id!r} can't be resumed: generator or contracts have changed since it began and "
                "would send other records; resume it with the version that began it"
            )
        for account in self.accounts:
            account.resume(mark.next_seq.get(account.entity, 0))
        self.status.catalogue = mark.sends  # not this process's: excluded from its rate
        self._phase("looking up what was sent")
        self._target.recover(mark.ends)

    def _chunk(self, sends: Iterator[Send]) -> None:
        accounts, contracts, target = self.accounts, list(self._contracts.values()), self._target
        for number, send in enumerate(sends, start=1):
            account = accounts[send.lane]
            if send.injected:
                account.injected[send.seq] = send.injected
            target.send(account, contracts[send.lane], send)
            if number % _POLL_EVERY == 0:
                target.poll()
                self._refuse_trouble()
                self._show()
        target.settle(self._show, self._mark.chunks + 1)
        self._refuse_trouble()
        self._ends = {entity: dict(ends) for entity, ends in self._mark.ends.items()}
        for account in accounts:
            columns = account.cut()
            if columns is None:
                continue
            ends = self._ends.setdefault(account.entity, {})
            for partition, offset in zip(columns["partition"].to_pylist(), columns["offset"].to_pylist(), strict=True):
                if offset >= ends.get(partition, 0):
                    ends[partition] = offset + 1
            self._store.put_part(account.entity, self._mark.chunks + 1, columns)

    def _refuse_trouble(self) -> None:
        """Write no row as `unknown`: the run stays open, and the process that resumes it determines the outcome."""
        troubled = sum(account.failed + account.unknown for account in self.accounts)
        if troubled:
            raise ServiceError(
                f"Kafka {self._settings.kafka.bootstrap_servers} did not take {troubled:,} records; check the brokers, "
                f"then go on with `crm-generator backfill --resume --run-id {self.status.run_id}`"
            )

    def _advance(self, model: HistoryModel, ends: Offsets) -> None:
        """Settle and record all sends of the chunk; then the next one may begin."""
        sent = {account.entity: account.sent for account in self.accounts}
        started = bool(self._mark.state)
        self._mark = self._mark.model_copy(
            update={
                "chunks": self._mark.chunks + (1 if started else 0),
                "sends": sum(sent.values()),
                "next_seq": sent,
                "state": model.state(),
                "ends": ends,
            }
        )
        room = max(self._catalogue, self._plan.scenario.chunk_records)
        self._put_summary(reserved={entity: number + room for entity, number in sent.items()})

    def _finish(self) -> None:
        self._show(always=True)
        self._target.finish(self._mark.chunks, self._mark.next_seq)
        self._put_summary(
            finished=True,
            ended_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            sent=self._mark.next_seq,
            achieved_rate=round(self.status.achieved_rate, 1),
        )
        self._phase("done")

    def _put_summary(self, **news: object) -> None:
        mark = self._mark.model_dump(mode="json")
        self._summary = self._summary.model_copy(update={"resume_from": mark, **news})
        self._store.put_summary(self._summary)

    def _show(self, always: bool = False) -> None:
        now = time.monotonic()
        if not always and now < self._next_report:
            return
        self._next_report = now + REPORT_S
        status, accounts = self.status, self.accounts
        status.sent = sum(account.sent for account in accounts)
        status.acked = sum(account.acked for account in accounts)
        status.buffered = self._target.buffered
        status.elapsed_s = now - status.started
        if status.elapsed_s > 0:
            status.achieved_rate = max(0, status.acked - status.catalogue) / status.elapsed_s
        self._report(status)

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        """Lock the run against a second process of this machine; the kernel releases the lock when this one dies."""
        name = f"crm-backfill-{self._settings.environment}-{self.status.run_id}.lock"
        with (Path(tempfile.gettempdir()) / name).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigurationError(
                    f"run {self.status.run_id!r} is being sent by another process of this machine; let it end first"
                ) from None
            yield
