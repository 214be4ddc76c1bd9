"""What streaming sustains from a backlog, and how long a record takes to silver.

The driver is warm (a spell of the fastest traffic first), and everything shares the machine: three brokers, object
store, generator and Spark.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from data_platform_core.accounting.latency import Latency, silver_latency
from data_platform_core.accounting.objects import s3_client
from data_platform_core.errors import ServiceError
from data_platform_core.settings import load_settings
from embedded_stack import api
from embedded_stack.bench.measuring import (
    ENTITY,
    ENVIRONMENT,
    Measured,
    console,
    cpu_seconds,
    drain,
    driver_processes,
    flood,
    generate,
    paused_driver,
)
from embedded_stack.services import STREAMING

_WARM_UP_SECONDS = 90
_WARM_UP_RATE = 3000
_LATENCY_SECONDS = 90
LATENCY_RATES = (100, 3000)


def measure(backlog: int) -> Sequence[Measured]:
    """Latency at each rate, then the backlog; leaves the driver stopped."""
    api.start(ENVIRONMENT, STREAMING)
    try:
        console.print(f"streaming: warming the driver, {_WARM_UP_SECONDS} s at {_WARM_UP_RATE}/s")
        generate("bench-warm-up", _WARM_UP_RATE, _WARM_UP_SECONDS)
        drain()
        return [*(_latency(rate) for rate in LATENCY_RATES), _backlog(backlog)]
    finally:
        api.stop(ENVIRONMENT, STREAMING)


def _latency(rate: int) -> Measured:
    console.print(f"streaming: latency, {_LATENCY_SECONDS} s at {rate}/s")
    run_id = f"bench-latency-{rate}"
    since, began = datetime.now(UTC), time.monotonic()
    driver = driver_processes()
    before = cpu_seconds(driver)
    generator_cpu = generate(run_id, rate, _LATENCY_SECONDS)
    seconds = time.monotonic() - began
    used = cpu_seconds(driver) - before
    drain()
    store = load_settings("accounting", ENVIRONMENT).object_store
    latency = silver_latency(s3_client(store), store.lake_bucket, ENTITY, run_id, since)
    if latency is None:
        raise ServiceError(f"run {run_id} left no {ENTITY} in silver; `make logs SERVICE={STREAMING}` tells why")
    return Measured(f"produced to silver at {rate}/s", told(latency), used / seconds, generator_cpu / seconds)


def told(latency: Latency) -> str:
    """A latency in one line."""
    return (
        f"p50 {latency.p50:.2f} s, p95 {latency.p95:.2f} s, p99 {latency.p99:.2f} s, most {latency.highest:.2f} s "
        f"({latency.records:,} records in {latency.commits} commits)"
    )


def _backlog(records: int) -> Measured:
    console.print(f"streaming: backlog, {records:,} {ENTITY} while the driver is paused, then all at once")
    with paused_driver():
        flood("bench-backlog", records)
    driver = driver_processes()
    before, began = cpu_seconds(driver), time.monotonic()
    seconds = drain()
    used = cpu_seconds(driver) - before
    value = f"{records / seconds:,.0f} records/s ({seconds:.1f} s until bronze and silver had them)"
    return Measured(f"backlog of {records:,} {ENTITY}", value, used / (time.monotonic() - began), None)
