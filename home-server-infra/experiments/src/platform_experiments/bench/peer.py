"""The peer beside streaming: the same traffic and backlog, on the same stack, into a table of its own.

It does less: one table instead of two, no duplicates found, no dead letters, at least once (`peer_loop` says all).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import psutil

from data_platform_core.accounting.liveness import committed_offsets
from data_platform_core.accounting.objects import s3_client
from data_platform_core.errors import ServiceError
from data_platform_core.kafka.client import reader, watermarks
from data_platform_core.naming import names
from data_platform_core.settings import load_settings
from platform_experiments.bench.load import Load
from platform_experiments.bench.measuring import (
    DRAIN_SECONDS,
    ENTITY,
    ENVIRONMENT,
    LATENCY_RATES,
    Measured,
    console,
    cpu_seconds,
    flood,
    generate,
    told,
)
from platform_experiments.bench.peer_loop import GROUP, READY, peer_folder
from platform_experiments.latency import commit_latency

_WARM_UP_RATE = 3000
_WARM_UP_SECONDS = 10
_POLL_S = 0.2


def measure(load: Load) -> Sequence[Measured]:
    """Latency at each rate, then the backlog."""
    with _peer() as process:
        console.print(f"peer: warming up, {_WARM_UP_SECONDS} s at {_WARM_UP_RATE}/s")
        generate("peer-warm-up", _WARM_UP_RATE, _WARM_UP_SECONDS)
        _drain()
        return [*(_latency(process, rate, load.seconds) for rate in LATENCY_RATES), _backlog(process, load.backlog)]


@contextmanager
def _peer() -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "platform_experiments.bench.peer_loop", ENVIRONMENT, ENTITY]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        if running.stdout.readline().strip() != READY:
            raise ServiceError("the peer did not start; its error is above")
        yield psutil.Process(running.pid)
    finally:
        running.terminate()
        running.wait()


def _latency(process: psutil.Process, rate: int, seconds: int) -> Measured:
    console.print(f"peer: latency, {seconds} s at {rate}/s")
    run_id = f"peer-latency-{rate}"
    since, began, before = datetime.now(UTC), time.monotonic(), cpu_seconds([process])
    generator_cpu = generate(run_id, rate, seconds)
    spent = time.monotonic() - began
    used = cpu_seconds([process]) - before
    _drain()
    store = load_settings("accounting", ENVIRONMENT).object_store
    latency = commit_latency(s3_client(store), store.lake_bucket, peer_folder(ENTITY), run_id, since)
    if latency is None:
        raise ServiceError(f"run {run_id} left no {ENTITY} in the peer's table; its error is above")
    return Measured(f"peer: produced to table at {rate}/s", told(latency), used / spent, generator_cpu / spent)


def _backlog(process: psutil.Process, records: int) -> Measured:
    console.print(f"peer: backlog, {records:,} {ENTITY} while it is paused, then all at once")
    process.suspend()
    try:
        flood("peer-backlog", records)
    finally:
        process.resume()
    before = cpu_seconds([process])
    seconds = _drain()
    used = cpu_seconds([process]) - before
    value = f"{records / seconds:,.0f} records/s ({seconds:.1f} s until its table had them)"
    return Measured(f"peer: backlog of {records:,} {ENTITY}", value, used / seconds, None)


def _drain() -> float:
    """Seconds until the peer has committed what its topic holds now."""
    began, settings, topic = time.monotonic(), load_settings("accounting", ENVIRONMENT).kafka, names(ENTITY).topic
    with reader(settings, GROUP) as consumer:
        ends = {number: end for number, (_first, end) in watermarks(consumer, topic).items()}
        while time.monotonic() - began < DRAIN_SECONDS:
            committed = committed_offsets(consumer, topic, ends)
            if all(committed.get(number, -1) >= end for number, end in ends.items() if end):
                return time.monotonic() - began
            time.sleep(_POLL_S)
    raise ServiceError(f"the peer did not take its topic within {DRAIN_SECONDS} s; its error is above")
