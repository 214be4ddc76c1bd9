"""SIGTERM and SIGINT stop the driver in every phase, even when its JVM hangs."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

from data_platform_core.streaming.observe.watchdog import end_now

#: A clean stop needs a few seconds (the running batch, Spark, Kafka's clients); after this many it is forced. A
#: supervisor must wait longer before it kills.
STOP_GRACE_S = 20.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger(__name__)


class Stopped(BaseException):
    """A signal asked the driver to stop. Not an Exception: no handler on the way may treat it as a failure."""


class Stopping(threading.Event):
    """Set when the driver must stop."""

    def __init__(self, grace_s: float = STOP_GRACE_S) -> None:
        super().__init__()
        self._grace_s = grace_s
        self._interrupts = False
        self._wakeup: socket.socket | None = None

    def on_signals(self) -> Stopping:
        """Install the signal handlers, from the main thread. Call it again after a library has replaced them.

        Python runs a handler only when the main thread returns from its current call. The signal's number in a socket
        reaches a thread at once, which forces the exit if the clean stop does not finish.
        """
        if self._wakeup is None:
            self._wakeup, sender = socket.socketpair()
            sender.setblocking(False)
            signal.set_wakeup_fd(sender.detach())
            threading.Thread(target=self._wait, args=(self._wakeup,), name="stopping", daemon=True).start()
        for number in _SIGNALS:
            signal.signal(number, self._asked)
        return self

    @contextmanager
    def interrupts(self) -> Iterator[None]:
        """While the block runs, the signal raises Stopped in it, because the start consists of long calls."""
        self._interrupts = True
        try:
            if self.is_set():
                raise Stopped
            yield
        finally:
            self._interrupts = False

    def force_later(self) -> None:
        """The driver is stopping, for any reason: force the exit if that takes too long."""
        timer = threading.Timer(self._grace_s, _force, (self._grace_s,))
        timer.daemon = True
        timer.start()

    def _asked(self, _signal: int, _frame: FrameType | None) -> None:
        self.set()
        if self._interrupts:
            self._interrupts = False  # a second signal must not interrupt the cleanup
            raise Stopped

    def _wait(self, wakeup: socket.socket) -> None:
        while True:
            if wakeup.recv(1)[0] in _SIGNALS:
                self.set()
                self.force_later()
                return


def _force(grace_s: float) -> None:
    log.error("driver has not ended in time, ending it", seconds=grace_s)
    end_now()
