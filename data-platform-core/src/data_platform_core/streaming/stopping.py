"""SIGTERM and SIGINT end the driver in every phase, also when its JVM hangs."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

from data_platform_core.streaming.observe.watchdog import end_now

#: An orderly end takes a few seconds (a batch under way, Spark, Kafka's clients); after so many it is forced. A
#: supervisor must wait longer before it kills.
STOP_GRACE_S = 20.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger(__name__)


class Stopped(BaseException):
    """A signal asked the driver to stop. Not an Exception: nobody on the way may take it for a failure."""


class Stopping(threading.Event):
    """Set once the driver is asked to stop."""

    def __init__(self, grace_s: float = STOP_GRACE_S) -> None:
        super().__init__()
        self._grace_s = grace_s
        self._interrupts = False
        self._told: socket.socket | None = None

    def on_signals(self) -> Stopping:
        """Take the signals, from the main thread; call it again after a library has taken them for itself.

        Python runs a handler only when the main thread comes back from whatever it calls. The signal's number in a
        socket reaches a thread at once, which forces the end if the orderly one does not come.
        """
        if self._told is None:
            self._told, tell = socket.socketpair()
            tell.setblocking(False)
            signal.set_wakeup_fd(tell.detach())
            threading.Thread(target=self._wait, args=(self._told,), name="stopping", daemon=True).start()
        for number in _SIGNALS:
            signal.signal(number, self._asked)
        return self

    @contextmanager
    def interrupts(self) -> Iterator[None]:
        """While the block runs, the signal raises Stopped in it: the start consists of long calls."""
        self._interrupts = True
        try:
            if self.is_set():
                raise Stopped
            yield
        finally:
            self._interrupts = False

    def force_later(self) -> None:
        """The driver ends now, for whatever reason: force it if that takes too long."""
        timer = threading.Timer(self._grace_s, _force, (self._grace_s,))
        timer.daemon = True
        timer.start()

    def _asked(self, _signal: int, _frame: FrameType | None) -> None:
        self.set()
        if self._interrupts:
            self._interrupts = False  # a second signal must not interrupt the clearing up
            raise Stopped

    def _wait(self, told: socket.socket) -> None:
        while True:
            if told.recv(1)[0] in _SIGNALS:
                self.set()
                self.force_later()
                return


def _force(grace_s: float) -> None:
    log.error("driver has not ended in time, ending it", seconds=grace_s)
    end_now()
