"""The writer lease of bronze and silver: acquired, renewed, checked before each commit, released (ADR 0021).

A holder renews it in a separate thread. A holder that could not renew for most of the time to live exits before another
process may take over. A holder that was paused beyond that detects it before it writes. `lease_record.py` decides when
another process may take over.
"""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from data_platform_core.errors import LeaseHeldError, LeaseLostError, ServiceError, UnreachableError
from data_platform_core.lake.lease_record import (
    GIVES_UP_AFTER,
    RENEWALS_PER_TTL,
    LeaseRecord,
    is_free,
    moment,
    successor,
    taken_away,
)
from data_platform_core.lake.lease_store import Found, LeaseStore
from data_platform_core.lake.process_marks import ProcessMark, all_ended, kernel_mark, process_mark
from data_platform_core.settings import LeaseSettings

TAKE_OVER = "crm lake lease --take-over"
#: Between two reads of a lease held by another process, and between retries of a failed renewal, seconds.
_POLL_S = 0.5
#: Between two log lines while waiting, seconds.
_REPORT_S = 5.0

log = structlog.get_logger(__name__)

#: Called once when the lease is lost, with a function that returns the reason. It must first stop all writes, then call
#: that function. If the process must not continue, it does not return.
OnLost = Callable[[Callable[[], LeaseLostError]], None]


def boot_clock() -> float:
    """Seconds since boot. Unlike the monotonic clock it also counts while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def this_process(job: str, settings: LeaseSettings) -> LeaseRecord:
    """This process's record as holder of the lease; `job` is its command, for messages."""
    now, own = datetime.now(UTC), process_mark(os.getpid())
    return LeaseRecord(
        epoch=0,
        holder=f"{job}, process {os.getpid()} on {socket.gethostname()}",
        token=secrets.token_hex(8),
        since=now,
        renewed=now,
        ttl_s=settings.ttl_s,
        kernel=kernel_mark(),
        processes=() if own is None else (own,),
    )


class WriterLease:
    """The lease from the view of one process.

    Call `acquire`, then `keep`, then `check` before each commit, and `release` at the end. Thread-safe after `keep`.
    """

    def __init__(self, files: LeaseStore, holder: LeaseRecord, clock: Callable[[], float] = boot_clock) -> None:
        self._files, self._mine, self._clock = files, holder, clock
        self._etag: str | None = None
        self._confirmed_at = 0.0
        self._on_lost: OnLost = _raise
        self._lost: LeaseLostError | None = None
        self._ending = threading.Lock()  # acquired once, when the lease is lost
        self._changing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew_always, name="lease", daemon=True)

    @property
    def epoch(self) -> int:
        """The lease's epoch; each new holder has a higher one."""
        return self._mine.epoch

    @property
    def fence_token(self) -> str | None:
        """A token unique to this holder while an earlier holder's pending writes must be fenced; otherwise None."""
        return f"{self._mine.epoch}-{self._mine.token}" if self._mine.fence_due else None

    def acquire(self, stopping: threading.Event | None = None) -> bool:
        """Acquire the lease; False when `stopping` was set meanwhile.

        Unless its holder is proven to have ended, the lease is watched until it is renewed, or for one time to live
        without a renewal. Raises LeaseHeldError when it is renewed or another process acquires it first; ServiceError
        as LeaseStore does.
        """
        stopping = stopping or threading.Event()
        watch: _Watch | None = None
        while not stopping.is_set():
            asked = self._clock()
            found = self._files.read()
            watch = watch or _Watch(found, self._clock())
            if found is not None and found != watch.first and not found.record.released:
                raise self._held(found.record)
            current = None if found is None else found.record
            if current is not None and current.blocked:
                raise ServiceError(f"{self._files.lake}: {current.blocked}")
            ended = current is not None and all_ended(current.kernel, current.processes)
            if is_free(current, asked - watch.since, ended):
                now = datetime.now(UTC)
                taken = successor(current, self._mine.model_copy(update={"since": now, "renewed": now}), ended)
                if self._write(taken, found.etag if found else None, asked):
                    self._report_taken(current, ended)
                    return True
                watch.first = None  # another process was first: the next read returns its record
                continue
            watch.report(asked)
            stopping.wait(_POLL_S)
        return False

    def keep(self, on_lost: OnLost) -> None:
        """Start renewing. `on_lost` is called from the detecting thread when the lease is lost."""
        self._on_lost = on_lost
        self._thread.start()

    def add_process(self, process: ProcessMark | None) -> None:
        """Add another process that writes for this holder: it must have ended too before the lease is free."""
        if process is not None:
            self._change(processes=(*self._mine.processes, process))

    def fenced(self) -> None:
        """Record that no write of an earlier holder can succeed any more."""
        self._change(fence_due=False)

    def block(self, reason: str) -> None:
        """Release the lease but block it until a person has repaired the tables."""
        self._change(released=True, blocked=f"{reason}; then clear this with `{TAKE_OVER}`")
        self._stop.set()
        self._etag = None

    def check(self) -> None:
        """Verify by a read of the store that this process may commit now. Raises LeaseLostError."""
        if self._lost is None and self._overdue() is None:
            found = self._files.read()
            if found is not None and found.record.is_of(self._mine) and not found.record.released:
                return
        self._lose()

    def release(self) -> None:
        """Stop renewing and release the lease, so that the next process need not wait. Never raises."""
        self._stop.set()
        with self._changing:
            if self._etag is None or self._lost is not None:
                return
            with suppress(ServiceError):  # then the next process waits, or detects that this process has ended
                released = self._mine.renewed_at(datetime.now(UTC)).model_copy(update={"released": True})
                self._write(released, self._etag, self._clock())
            self._etag = None

    def _renew_always(self) -> None:
        pause = interval = self._mine.ttl_s / RENEWALS_PER_TTL
        while not self._stop.wait(pause):
            try:
                self._change()
                pause = interval
            except LeaseLostError:
                return
            except ServiceError as error:
                log.warning("lease not renewed", reason=str(error))
                pause = _POLL_S

    def _change(self, **values: object) -> None:
        """Write the next record. Raises LeaseLostError when the lease is lost, ServiceError as LeaseStore does."""
        with self._changing:
            if self._stop.is_set():
                return
            asked = self._clock()
            if self._overdue() is None:
                record = self._mine.renewed_at(datetime.now(UTC)).model_copy(update=values)
                if self._write(record, self._etag, asked):
                    return
        self._lose()

    def _write(self, record: LeaseRecord, etag: str | None, asked: float) -> bool:
        """Replace the record with that ETag by ours, requested at `asked`; False if another process was first."""
        written = self._files.replace(record, etag)
        if written is None:  # perhaps our own previous put, whose answer was lost
            found = self._files.read()
            if found is None or found.record.released or not found.record.is_of(record):
                return False
            written = self._files.replace(record, found.etag)
        if written is not None:
            self._mine, self._etag, self._confirmed_at = record, written, asked
        return written is not None

    def _overdue(self) -> float | None:
        """Seconds since the last renewal if the renewal is overdue; otherwise None."""
        since = self._clock() - self._confirmed_at
        return since if since >= self._mine.ttl_s * GIVES_UP_AFTER else None

    def _lose(self) -> None:
        """Stop the writes, once, and raise LeaseLostError."""
        overdue = self._overdue()
        if self._ending.acquire(blocking=False):
            self._stop.set()
            self._on_lost(lambda: self._why(overdue))
        raise self._lost or self._why(overdue)

    def _why(self, overdue: float | None) -> LeaseLostError:
        if self._lost is None:
            self._lost = LeaseLostError(
                f"lease of {self._files.lake} is lost ({self._mine.described}): {self._cause(overdue)}; this process "
                "ends without another commit"
            )
        return self._lost

    def _cause(self, overdue: float | None) -> str:
        paused = "" if overdue is None else f"not renewed for {overdue:.0f} s (paused, or no answer from the store), "
        try:
            found = self._files.read()
        except UnreachableError:
            return f"{paused}and the object store does not answer"
        except ServiceError as error:
            return f"{paused}{error}"
        if found is None:
            return f"{paused}its object was deleted"
        if found.record.blocked:
            return found.record.blocked
        if found.record.is_of(self._mine):
            return f"{paused}and no process has taken it since: the next start acquires it again"
        return f"{paused}taken by {found.record.described}"

    def _held(self, by: LeaseRecord) -> LeaseHeldError:
        return LeaseHeldError(
            f"{self._files.lake} is being written by {by.described}, renewed {moment(by.renewed)}; one process writes "
            f"bronze and silver: stop that one first; if it can't be stopped, revoke the lease with `{TAKE_OVER}`"
        )

    def _report_taken(self, current: LeaseRecord | None, ended: bool) -> None:
        before = "nobody" if current is None else current.described
        how = "first" if current is None else "released" if current.released else "ended" if ended else "expired"
        log.info("lease taken", epoch=self.epoch, before=before, how=how, fence=self._mine.fence_due)


@dataclass
class _Watch:
    """The first record read, and the time of that by this process's own clock."""

    first: Found | None
    since: float
    reported: float = 0.0

    def report(self, now: float) -> None:
        if self.first is not None and now - max(self.since, self.reported) >= _REPORT_S:
            self.reported = now
            log.info("watching the lease", holder=self.first.record.described, unchanged_s=round(now - self.since))


def take_away(files: LeaseStore, person: LeaseRecord) -> LeaseRecord | None:
    """Revoke the lease from its holder; returns the previous record, None if no process holds it."""
    while (found := files.read()) is not None and (found.record.blocked or not found.record.released):
        if files.replace(taken_away(found.record, person), found.etag) is not None:
            return found.record
    return None


def this_person(settings: LeaseSettings) -> LeaseRecord:
    """The record that the command for revoking the lease writes."""
    record = this_process(TAKE_OVER, settings)
    return record.model_copy(update={"holder": f"{getpass.getuser()} with `{TAKE_OVER}` on {socket.gethostname()}"})


def _raise(explain: Callable[[], LeaseLostError]) -> None:
    raise explain()
