"""Open-loop pacing: due times do not depend on the sender.

A closed loop waits for the system under test and then measures only the requests that it could send
(coordinated omission). Here the due times come from the scenario alone. A sender delayed by two seconds has two seconds
of due records, sends them all, and each still has its due time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

#: Records are sent in ticks of this length, seconds: waking for each of 3,000 records/s would cost more than they do.
TICK_S = 0.01
#: A sender that is far behind catches up in batches of this size, so that acknowledgements are served in between.
MAX_BATCH = 500
#: Longest sleep, seconds: the interval for signals, acknowledgements and the ledger's clock.
MAX_SLEEP_S = 0.05


class Pacer:
    """Returns due times that have been reached. `clock` is monotonic, in seconds; `start` (default: now) is its value
    at due time 0.
    """

    def __init__(
        self,
        due: Iterator[float],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        start: float | None = None,
    ) -> None:
        self._due, self._clock, self._sleep = due, clock, sleep
        self._next = next(due, None)
        self._start = clock() if start is None else start
        self._next_tick = 0.0
        self.behind_s = 0.0
        self.worst_behind_s = 0.0

    @property
    def finished(self) -> bool:
        return self._next is None

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._start

    def take(self) -> list[float]:
        """Due times that have come, ascending, at most MAX_BATCH, after at most one sleep; empty when it was short."""
        if self._next is None:
            return []
        wait = max(self._next, self._next_tick) - self.elapsed_s
        if wait > 0:
            self._sleep(min(wait, MAX_SLEEP_S))
        now = self.elapsed_s
        self._next_tick = now + TICK_S
        batch: list[float] = []
        upcoming: float | None = self._next
        while upcoming is not None and upcoming <= now and len(batch) < MAX_BATCH:
            batch.append(upcoming)
            upcoming = next(self._due, None)
        self._next = upcoming
        if len(batch) == MAX_BATCH:
            self._next_tick = now  # more is due: continue at once
        self.behind_s = max(0.0, now - upcoming) if upcoming is not None else 0.0
        # Being one tick late is by design, not a delay.
        if batch and now - batch[0] > 2 * TICK_S:
            self.worst_behind_s = max(self.worst_behind_s, now - batch[0])
        return batch
