"""The producer's ledger of a run, written to the object store while it runs.

`data_platform_core.wire.ledger` defines the format and its meaning for readers. This module guarantees:

- a row is `ok` only after the broker's acknowledgement, because rows come only from delivery reports;
- no number is used before the summary in the object store reserves it: `tick` blocks the sender until then.

Sending must not wait for the object store, so a thread writes: parts of what was settled every FLUSH_S, and the
reservation while half of it is still left. A send costs a digest and an append, a delivery report three appends to
arrays; all else is done per part.
"""

from __future__ import annotations

import queue
import threading
import time
from array import array
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from data_generator.columns import integers, integers_then_nulls, strings
from data_generator.ledger_store import LedgerStore
from data_generator.model import INJECTED
from data_platform_core.errors import ServiceError
from data_platform_core.wire.ledger import Outcome, ProducerSummary

#: Seconds between parts: the period whose outcomes a `kill -9` loses.
FLUSH_S = 5.0
#: A reservation lasts this long at the target rate, seconds, and is at least LEAST_RESERVATION numbers.
RESERVATION_S = 10.0
LEAST_RESERVATION = 2_000


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Account:
    """One entity's sends. `sent` and the delivery reports belong to the sending thread."""

    def __init__(self, entity: str) -> None:
        self.entity = entity
        self.sent = 0
        self.reserved = 0
        self.failed = 0
        self.unknown = 0
        self.injected: dict[int, int] = {}  # seq -> code of injected faults
        self.parts = 0
        self._acked_before = 0
        # Of the numbers that were settled: all below `floor`, and `ahead`.
        self._floor = 0
        self._ahead = np.empty(0, dtype=np.int64)
        # Digest of each send from number `_digests_from` on, kept until it is settled.
        self.digests = array("Q")
        self._digests_from = 0
        self._begin_part()

    def _begin_part(self) -> None:
        self.seqs, self.partitions, self.offsets = array("q"), array("i"), array("q")
        self.troubled: list[tuple[int, Outcome]] = []

    def resume(self, seq: int) -> None:
        """Mark all numbers below `seq` as sent, acknowledged and written by a previous process."""
        self.sent = self._acked_before = self._floor = self._digests_from = seq

    @property
    def acked(self) -> int:
        return self._acked_before + len(self.seqs)

    def acknowledged(self, seq: int, partition: int, offset: int) -> None:
        """Record an acknowledged send."""
        self.seqs.append(seq)
        self.partitions.append(partition)
        self.offsets.append(offset)

    def trouble(self, seq: int, outcome: Outcome) -> None:
        """Record a send that was not acknowledged: certainly not written (FAIL), or unknown (INFO)."""
        self.troubled.append((seq, outcome))
        if outcome is Outcome.FAIL:
            self.failed += 1
        else:
            self.unknown += 1

    def cut(self) -> dict[str, Any] | None:
        """The rows settled since the last cut, as columns of LEDGER_SCHEMA; None when there are none."""
        seqs, partitions, offsets, troubled = self.seqs, self.partitions, self.offsets, self.troubled
        if not seqs and not troubled:
            return None
        self._acked_before += len(seqs)
        self._begin_part()
        numbers = np.concatenate(
            [np.frombuffer(seqs, dtype=np.int64), np.array([seq for seq, _ in troubled], dtype=np.int64)]
        )
        digests = np.array(self.digests, dtype=np.uint64)[numbers - self._digests_from]
        self._settle(numbers)
        outcomes = [Outcome.OK.value] * len(seqs) + [outcome.value for _, outcome in troubled]
        return {
            "seq": integers(numbers, pa.int64()),
            "outcome": strings(outcomes),
            "injected": strings(self._injected_of(numbers)),
            "partition": integers_then_nulls(partitions, len(troubled), pa.int32()),
            "offset": integers_then_nulls(offsets, len(troubled), pa.int64()),
            "digest": integers(digests, pa.uint64()),
        }

    def _injected_of(self, numbers: Any) -> list[str]:
        if not self.injected:
            return [INJECTED[0].value] * len(numbers)
        take = self.injected.pop
        return [INJECTED[take(seq, 0)].value for seq in numbers.tolist()]

    def _settle(self, numbers: Any) -> None:
        known = np.sort(np.concatenate([self._ahead, numbers]))
        gapless = int(np.count_nonzero(known == self._floor + np.arange(len(known))))
        self._floor += gapless
        self._ahead = known[gapless:]
        del self.digests[: self._floor - self._digests_from]
        self._digests_from = self._floor

    def give_up(self) -> None:
        """Mark sends without an outcome as unknown, at the end. Call after a cut."""
        for seq in np.setdiff1d(np.arange(self._floor, self.sent), self._ahead).tolist():
            self.trouble(seq, Outcome.INFO)


class Ledger:
    """All accounts of a producer, and the thread that writes them. Call `open` before the first send."""

    def __init__(
        self, store: LedgerStore, entities: list[str], summary: ProducerSummary, rate: float | None = None
    ) -> None:
        self._store = store
        self._summary = summary
        self.accounts = [Account(entity) for entity in entities]
        self._chunk = max(LEAST_RESERVATION, int(RESERVATION_S * (rate or 0)))
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._error: ServiceError | None = None
        self._reserving = False
        self._next_flush = time.monotonic() + FLUSH_S

    def open(self) -> None:
        """Claim the run id and reserve the first numbers. Raises ServiceError; nothing is sent before this."""
        self._store.claim()
        self._reserve({account.entity: self._chunk for account in self.accounts})
        self._thread.start()

    def tick(self, headroom: int, wait: Callable[[float], object]) -> None:
        """Call once per batch: writes due parts and ensures that `headroom` more numbers of each entity are reserved.

        `wait(seconds)` is called while they are not (the object store is slow or down). Raises ServiceError when the
        ledger can't be written, because further sends would have no ledger rows.
        """
        if time.monotonic() >= self._next_flush:
            self._next_flush = time.monotonic() + FLUSH_S
            self.flush()
        if not self._reserving and any(a.reserved - a.sent < self._chunk // 2 + headroom for a in self.accounts):
            self._reserving = True
            marks = {a.entity: max(a.reserved, a.sent + self._chunk + headroom) for a in self.accounts}
            self._jobs.put(lambda: self._reserve(marks))
        while any(a.sent + headroom > a.reserved for a in self.accounts):
            self._raise_error()
            wait(0.01)
            if not self._reserving:
                return self.tick(headroom, wait)
        self._raise_error()
        return None

    def flush(self) -> None:
        """Pass the settled rows to the writing thread."""
        for account in self.accounts:
            columns = account.cut()
            if columns:
                account.parts += 1
                number = account.parts
                self._jobs.put(lambda e=account.entity, n=number, c=columns: self._store.put_part(e, n, c))  # type: ignore[misc]

    def close(self, outcome: Mapping[str, Any]) -> ProducerSummary:
        """Write the rest; unresolved sends become `info`. `outcome`: more fields of the summary, such as achieved_rate.

        Raises ServiceError when that fails: `finished` stays false in the store.
        """
        self.flush()
        for account in self.accounts:
            account.give_up()
        self.flush()
        self._jobs.put(None)
        self._thread.join()
        self._raise_error()
        self._summary = self._summary.model_copy(
            update={
                "ended_at": _now(),
                "finished": True,
                "sent": {account.entity: account.sent for account in self.accounts},
                **outcome,
            }
        )
        self._store.put_summary(self._summary)
        return self._summary

    def _reserve(self, marks: dict[str, int]) -> None:
        self._summary = self._summary.model_copy(update={"reserved": marks})
        self._store.put_summary(self._summary)
        for account in self.accounts:
            account.reserved = marks[account.entity]
        self._reserving = False

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                job()
            except ServiceError as error:
                # Nothing is written after it: a later part after a missing one would suggest a complete ledger.
                self._error = error
                return
            except BaseException as error:
                self._error = ServiceError(f"the ledger can't be written: {type(error).__name__}: {error}")
                return

    def _raise_error(self) -> None:
        if self._error:
            raise self._error


def new_summary(run_id: str, producer_id: int, scenario: str, seed: int, target_rate: float | None) -> ProducerSummary:
    """The summary of a run that starts now."""
    return ProducerSummary(
        run_id=run_id,
        producer_id=producer_id,
        scenario=scenario,
        seed=seed,
        started_at=_now(),
        target_rate=target_rate,
    )
