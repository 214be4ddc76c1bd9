"""The consumer under test: the streaming driver with an arm's settings, and its executors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from data_platform_core.access.names import STREAMING
from data_platform_core.errors import ServiceError
from data_platform_core.waiting import ask_until
from platform_experiments.runtime import Part, Runtime
from platform_experiments.spike.arms import Arm

#: Executors that only the start needs are released within this time.
SETTLE_TIMEOUT_S = 150


class Consumer:
    """A driver that runs, and its executors."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._instance = runtime.instance(STREAMING)

    def require_running(self) -> None:
        """Raises ServiceError when the driver has ended, whether or not it was started again."""
        if self._runtime.instance(STREAMING) != self._instance:
            logs = self._runtime.command("logs", SERVICE=STREAMING)
            raise ServiceError(f"the streaming driver ended during the experiment; see `{logs}`")

    def settle(self, executors: int) -> int:
        """Wait until no more than `executors` are left, so that every arm starts equally; returns their number."""

        def running() -> int:
            self.require_running()
            return len(self._runtime.processes(Part.EXECUTORS))

        return ask_until(lambda found: found <= executors, running, within_s=SETTLE_TIMEOUT_S, every_s=1)


@contextmanager
def consumer(runtime: Runtime, arm: Arm) -> Iterator[Consumer]:
    """Start the driver under the arm's settings, with room for executors; on leaving, stop it. Raises ServiceError."""
    with runtime.executor_room() as room:
        try:
            runtime.start(STREAMING, {**room, **arm.settings})
            yield Consumer(runtime)
        finally:
            runtime.stop(STREAMING)
