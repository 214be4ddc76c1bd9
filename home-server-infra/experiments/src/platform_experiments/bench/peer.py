"""The peer beside streaming: the same traffic and backlog, on the same stack, into a table of its own.

It does less: one table instead of two, no duplicates found, no dead letters, at least once (`peer_loop` says all).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from data_platform_core.accounting.liveness import committed_offsets
from data_platform_core.errors import ServiceError
from data_platform_core.kafka.client import reader, watermarks
from data_platform_core.naming import names
from data_platform_core.waiting import ask_until
from platform_experiments.bench.measuring import DRAIN_SECONDS, ENTITY, LATENCY_RATES, Bench, Measured, console, shown
from platform_experiments.bench.peer_loop import GROUP, READY, peer_folder
from platform_experiments.runtime import Running, cpu_since

_WARM_UP_RATE = 3000
_WARM_UP_SECONDS = 10
_START_SECONDS = 60
_POLL_S = 0.2


def measure(bench: Bench) -> Sequence[Measured]:
    """Latency at each rate, then the backlog."""
    with _peer(bench) as running:
        console.print(f"peer: warming up, {_WARM_UP_SECONDS} s at {_WARM_UP_RATE}/s")
        bench.generate("peer-warm-up", _WARM_UP_RATE, _WARM_UP_SECONDS)
        _drain(bench)
        return [*(_latency(bench, running, rate) for rate in LATENCY_RATES), _backlog(bench, running)]


@contextmanager
def _peer(bench: Bench) -> Iterator[Running]:
    command = ["python", "-m", "platform_experiments.bench.peer_loop", bench.environment, ENTITY]
    running = bench.runtime.begin("peer", command)
    try:

        def answer() -> tuple[bool, bool]:
            return READY in running.output().splitlines(), running.exit_code() is not None

        ready, _ = ask_until(any, answer, within_s=_START_SECONDS, every_s=_POLL_S)
        if not ready:
            raise ServiceError(f"the peer did not start; see {running.place}")
        yield running
    finally:
        running.end()


def _latency(bench: Bench, running: Running, rate: int) -> Measured:
    seconds = bench.load.seconds
    console.print(f"peer: latency, {seconds} s at {rate}/s")
    run_id = f"peer-latency-{rate}"
    since, began, before = datetime.now(UTC), time.monotonic(), running.processes()
    generator_cpu = bench.generate(run_id, rate, seconds)
    spent = time.monotonic() - began
    used = cpu_since(before, running.processes())
    _drain(bench)
    latency = bench.latency(peer_folder(ENTITY), run_id, since)
    if latency is None:
        raise ServiceError(f"run {run_id} left no {ENTITY} in the peer's table; see {running.place}")
    return Measured(f"peer: produced to table at {rate}/s", shown(latency), used / spent, generator_cpu / spent)


def _backlog(bench: Bench, running: Running) -> Measured:
    records = bench.load.backlog
    console.print(f"peer: backlog, {records:,} {ENTITY} while it is paused, then all at once")
    with running.paused():
        bench.flood("peer-backlog", records)
    before = running.processes()
    seconds = _drain(bench)
    used = cpu_since(before, running.processes())
    value = f"{records / seconds:,.0f} records/s ({seconds:.1f} s until its table had them)"
    return Measured(f"peer: backlog of {records:,} {ENTITY}", value, used / seconds, None)


def _drain(bench: Bench) -> float:
    """Seconds until the peer has committed what its topic holds now."""
    began, settings, topic = time.monotonic(), bench.settings("accounting").kafka, names(ENTITY).topic
    with reader(settings, GROUP) as consumer:
        ends = {number: end for number, (_first, end) in watermarks(consumer, topic).items()}
        while time.monotonic() - began < DRAIN_SECONDS:
            committed = committed_offsets(consumer, topic, ends)
            if all(committed.get(number, -1) >= end for number, end in ends.items() if end):
                return time.monotonic() - began
            time.sleep(_POLL_S)
    raise ServiceError(f"the peer did not read its topic to the end within {DRAIN_SECONDS} s; its log says why")
