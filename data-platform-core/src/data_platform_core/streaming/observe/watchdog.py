"""Ends a driver that hangs, so that its supervisor starts it again, and reports what it is doing.

A driver hangs when its start does not advance, when Spark's JVM answers no call, or when records wait and no batch
ends. Its threads may all be blocked in calls to the JVM then, so a thread of its own judges, kills the JVM and ends the
process. What an outage makes the driver wait for is no hang: whoever waits calls `beat`.
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

#: Between two looks, seconds.
_LOOK_S = 1.0
#: A driver whose JVM has ended reports that and ends by itself; after so long it is ended, seconds.
_ORDERLY_S = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Signs:
    """What the driver last showed of itself; moments in monotonic seconds.

    `doing` is the part of the start that is under way, None once every query runs. `advanced_at`: the last `beat`;
    `answered_at`: the JVM's last answer to the driver's loop; `waiting`: by entity whose records wait, since when no
    batch of it has ended.
    """

    doing: str | None
    advanced_at: float
    answered_at: float
    waiting: Mapping[str, float] = field(default_factory=dict)


def hang(signs: Signs, now: float, patience_s: float) -> str | None:
    """Why a driver with these signs hangs; None when it does not."""
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
    """A `beat` where nobody watches."""


class Watchdog:
    """Watches one driver. `lag` returns the waiting records by entity, None while that is not known."""

    def __init__(self, patience_s: float, lag: Callable[[], Mapping[str, int] | None]) -> None:
        self._patience_s, self._lag = patience_s, lag
        self._doing: str | None = "asking its services"
        # Until `start`: a service that is away may be waited for as long as it takes.
        self._advanced_at = self._answered_at = math.inf
        self._waiting: dict[str, float] = {}
        self._lock = threading.Lock()
        self._jvm: psutil.Process | None = None
        self._jvm_ended_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Judge from now on."""
        self.beat("starting Spark")
        self._thread.start()

    def jvm(self, process: psutil.Process | None) -> None:
        """The session's JVM: when it ends, so does the driver."""
        self._jvm = process

    def beat(self, doing: str) -> None:
        """The start has advanced to this, or the driver waits for a service, which is no hang."""
        with self._lock:
            self._advanced_at = time.monotonic()
            self._waiting = dict.fromkeys(self._waiting, self._advanced_at)
            if self._doing is not None:
                self._doing = doing

    def streaming(self) -> None:
        """Every query runs."""
        with self._lock:
            self._doing = None
            self._advanced_at = self._answered_at = time.monotonic()

    def answered(self) -> None:
        """The JVM has answered a call of the driver's loop."""
        self._answered_at = time.monotonic()

    def batch_ended(self, entity: str) -> None:
        with self._lock:
            if entity in self._waiting:
                self._waiting[entity] = time.monotonic()

    def not_alive(self) -> str | None:
        """Why the driver hangs; None while it does not."""
        return hang(self._signs(), time.monotonic(), self._patience_s)

    def not_ready(self) -> str | None:
        """Why the driver does not stream now: it hangs, or its start is under way."""
        return self.not_alive() or (f"starting: {self._doing}" if self._doing is not None else None)

    def _signs(self) -> Signs:
        with self._lock:
            return Signs(self._doing, self._advanced_at, self._answered_at, dict(self._waiting))

    def _run(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            self._look(time.monotonic())

    def _look(self, now: float) -> None:
        lag = self._lag() or {}  # while it is not known, nothing is judged by it
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
    """End this process at once with a ServiceError's exit code, its JVM first: a stopped one might go on writing."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()
    os._exit(ServiceError.exit_code)


def _ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
