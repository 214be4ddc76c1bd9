"""`crm-experiment bench --only peers`: the platform's stream and three other ways, in one run, as a Markdown table.

All get the same traffic and the same backlog of one entity, each into tables of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from data_platform_core.accounting.liveness import committed_offsets
from data_platform_core.errors import ServiceError
from data_platform_core.kafka.client import reader, watermarks
from data_platform_core.naming import names
from data_platform_core.waiting import ask_until
from platform_experiments.bench.measuring import DRAIN_SECONDS, ENTITY, Bench, Measured, Used, use_of
from platform_experiments.bench.peers.common import READY, Peer
from platform_experiments.bench.settings import streaming
from platform_experiments.bench.subject import Started, Subject, compare
from platform_experiments.runtime import Running

#: Spark takes longest.
_START_SECONDS = 120
_POLL_S = 0.2


@dataclass(frozen=True)
class _RunningPeer:
    """A peer that runs (`Subject`)."""

    bench: Bench
    peer: Peer
    running: Running

    @property
    def folder(self) -> str:
        return self.peer.folder(ENTITY)

    def use(self) -> Callable[[], Used]:
        return use_of(self.running.processes)

    def paused(self) -> AbstractContextManager[None]:
        return self.running.paused()

    def drain(self) -> float:
        """Seconds until the peer has committed what its topic holds now."""
        began, settings = time.monotonic(), self.bench.settings("accounting").kafka
        topic = names(ENTITY).topic
        with reader(settings, self.peer.group) as consumer:
            ends = {number: end for number, (_first, end) in watermarks(consumer, topic).items() if end}

            def behind() -> list[int]:
                if self.running.exit_code() is not None:
                    raise ServiceError(f"peer {self.peer} has ended; see {self.running.place}")
                committed = committed_offsets(consumer, topic, ends)
                return [number for number, end in ends.items() if committed.get(number, -1) < end]

            left = ask_until(lambda found: not found, behind, within_s=DRAIN_SECONDS, every_s=_POLL_S)
        if left:
            raise ServiceError(
                f"peer {self.peer} did not read partitions {left} of {topic} to the end within {DRAIN_SECONDS} s; see "
                f"{self.running.place}"
            )
        return time.monotonic() - began


def measure(bench: Bench) -> Sequence[Measured]:
    """Print the table; every subject is printed as it ends."""
    others = {f"peer {peer}": _started(peer) for peer in Peer}
    compare(bench, "peers", {"streaming": streaming({}), **others})
    return ()


def _started(peer: Peer) -> Started:
    @contextmanager
    def started(bench: Bench) -> Iterator[Subject]:
        command = ["python", "-m", f"platform_experiments.bench.peers.{peer}", bench.environment, ENTITY]
        running = bench.runtime.begin(f"peer-{peer}", command)
        try:

            def answer() -> tuple[bool, bool]:
                return READY in running.output().splitlines(), running.exit_code() is not None

            ready, _ = ask_until(any, answer, within_s=_START_SECONDS, every_s=_POLL_S)
            if not ready:
                raise ServiceError(f"peer {peer} did not start; see {running.place}")
            yield _RunningPeer(bench, peer, running)
        finally:
            running.end()

    return started
