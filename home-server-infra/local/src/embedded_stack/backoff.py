"""Runs inside supervisord: caps its back-off, and reports which services fail to start.

supervisord waits one second longer after each failed start, without a limit, and gives a service up (FATAL) after
`startretries`. Recovery from an outage must be automatic, so here the wait is capped at MAX_BACKOFF_SECONDS, and so is
the count that supervisord compares with `startretries`: no service becomes FATAL. supervisord loads this module through
its documented extension point, a section `[rpcinterface:backoff]`; `Supervisor.failed_starts` calls it.
"""

from __future__ import annotations

import time
from typing import Any

from supervisor import events

#: Longest wait between two starts of a service that fails to start, and `startretries` of every service.
MAX_BACKOFF_SECONDS = 30


class BackoffInterface:
    """supervisord's RPC namespace `backoff`."""

    def __init__(self) -> None:
        self._failed: dict[str, int] = {}
        self._due: dict[str, float] = {}
        events.subscribe(events.ProcessStateBackoffEvent, self._on_failed_start)
        events.subscribe(events.ProcessStateRunningEvent, self._on_settled)
        events.subscribe(events.ProcessStateStoppedEvent, self._on_settled)

    def getFailedStarts(self) -> dict[str, list[int]]:
        """By service: failed starts in a row, and seconds until the next one (0 when it is due or under way)."""
        now = time.time()
        return {name: [count, max(0, round(self._due[name] - now))] for name, count in self._failed.items()}

    def _on_failed_start(self, event: Any) -> None:
        process = event.process
        name = process.config.name
        process.backoff = min(process.backoff, MAX_BACKOFF_SECONDS)
        process.delay = min(process.delay, time.time() + process.backoff)
        self._failed[name] = self._failed.get(name, 0) + 1
        self._due[name] = process.delay

    def _on_settled(self, event: Any) -> None:
        """Reset the count of a service that stays up or was stopped by hand."""
        event.process.backoff = 0
        self._failed.pop(event.process.config.name, None)


def make_interface(_supervisord: Any) -> BackoffInterface:
    """The section's `supervisor.rpcinterface_factory`."""
    return BackoffInterface()
