"""Kills a driver that hangs, so that its supervisor restarts it, and reports the current phase.

A driver hangs when its start does not advance, when Spark's JVM answers no call, or when records wait and no batch
ends. Its threads may then all be blocked in calls to the JVM, so a separate thread decides, kills the JVM and ends the
process. Waiting for a service in an outage is not a hang: the waiting code calls `beat`.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import psutil
import structlog

from data_platform_core.errors import ServiceError

#: Between two checks, seconds.
_CHECK_S = 1.0
#: A driver whose JVM has ended reports that and exits. If it has not exited after this many seconds, it is killed.
_ORDERLY_S = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Signs:
    """The driver's last signs of life; times in monotonic seconds.

    `doing` is the current phase of the start, None once every query runs. `advanced_at`: the last `beat`;
    `answered_at`: the JVM's last answer to the driver's loop; `waiting`: for each entity with waiting records, the time
    since when no batch has ended.
    """

    doing: str | None
    advanced_at: float
    answered_at: float
    waiting: Mapping[str, float] = field(default_factory=dict)


def hang(signs: Signs, now: float, patience_s: float) -> str | None:
    """The reason why a driver with these signs hangs; None if it does not."""
    if signs.doing is not None:
        still = now - signs.advanced_at
        return f"no progress for {still:.0f} s while {signs.doing}" if still > patience_s else None
    silent = now - max(signs.answered_at, signs.advanced_at)
    if silent > patience_s:
        return f"Spark's JVM has answered nothing for {silent:.0f} s"
    for entity, since in signs.waiting.items():
        if now - since > patience_s:
            return f"records of {entity} wait and no batch has ended for {now - since:.0f} s"
    return None


def unwatched(_doing: str) -> None:
    """A no-op `beat`, for use without a watchdog."""


class Watchdog:
    """Watches one driver. `lag` returns the waiting records by entity, None while unknown."""

    def __init__(self, patience_s: float, lag: Callable[[], Mapping[str, int] | None]) -> None:
        self._patience_s, self._lag = patience_s, lag
        self._doing: str | None = "asking its services"
        # Until `start`, the driver may wait for a service without a limit.
        self._advanced_at = self._answered_at = math.inf
        self._waiting: dict[str, float] = {}
        self._lock = threading.Lock()
        self._jvm: psutil.Process | None = None
        self._jvm_ended_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start checking."""
        self.beat("starting Spark")
        self._thread.start()

    def jvm(self, process: psutil.Process | None) -> None:
        """Set the session's JVM: when it exits, the driver exits too."""
        self._jvm = process

    def beat(self, doing: str) -> None:
        """Report progress of the start, or that the driver waits for a service, which is not a hang."""
        with self._lock:
            self._advanced_at = time.monotonic()
            self._waiting = dict.fromkeys(self._waiting, self._advanced_at)
            if self._doing is not None:
                self._doing = doing

    def streaming(self) -> None:
        """Report that every query runs."""
        with self._lock:
            self._doing = None
            self._advanced_at = self._answered_at = time.monotonic()

    def answered(self) -> None:
        """Report that the JVM answered a call of the driver's loop."""
        self._answered_at = time.monotonic()

    def batch_ended(self, entity: str) -> None:
        with self._lock:
            if entity in self._waiting:
                self._waiting[entity] = time.monotonic()

    def not_alive(self) -> str | None:
        """The reason why the driver hangs; None if it does not."""
        return hang(self._signs(), time.monotonic(), self._patience_s)

    def not_ready(self) -> str | None:
        """The reason why the driver is not ready: it hangs, or it is still starting."""
        return self.not_alive() or (f"starting: {self._doing}" if self._doing is not None else None)

    def _signs(self) -> Signs:
        with self._lock:
            return Signs(self._doing, self._advanced_at, self._answered_at, dict(self._waiting))

    def _run(self) -> None:
        while True:
            time.sleep(_CHECK_S)
            self._check(time.monotonic())

    def _check(self, now: float) -> None:
        lag = self._lag() or {}  # unknown lag is no evidence of a hang
        with self._lock:
            self._waiting = {entity: self._waiting.get(entity, now) for entity, records in lag.items() if records}
        if (reason := self.not_alive()) is not None:
            log.error("driver hangs, ending it", reason=reason)
            end_now()
        if self._jvm is not None and _ended(self._jvm):
            self._jvm_ended_at = self._jvm_ended_at or now
            if now - self._jvm_ended_at > _ORDERLY_S:
                log.error("driver does not end after its JVM, ending it")
                end_now()


def end_now() -> None:
    """Kill the JVM, then exit at once with a ServiceError's code: a frozen JVM might continue writing later."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()
    os._exit(ServiceError.exit_code)


def _ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
