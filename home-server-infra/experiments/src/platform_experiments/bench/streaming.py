"""What streaming sustains from a backlog, and how long a record takes to silver.

The driver is warm (a spell of the fastest traffic first), and everything shares the machine: three brokers, object
store, generator and Spark.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from data_platform_core.accounting.objects import s3_client
from data_platform_core.errors import ServiceError
from data_platform_core.naming import names
from data_platform_core.settings import load_settings
from embedded_stack import api
from embedded_stack.services import STREAMING
from platform_experiments.bench.load import Load
from platform_experiments.bench.measuring import (
    ENTITY,
    ENVIRONMENT,
    LATENCY_RATES,
    Measured,
    console,
    cpu_seconds,
    drain,
    driver_processes,
    flood,
    generate,
    paused_driver,
    told,
)
from platform_experiments.latency import commit_latency

_WARM_UP_RATE = 3000


def measure(load: Load) -> Sequence[Measured]:
    """Latency at each rate, then the backlog; leaves the driver stopped."""
    api.start(ENVIRONMENT, STREAMING)
    try:
        console.print(f"streaming: warming the driver, {load.warm_up} s at {_WARM_UP_RATE}/s")
        generate("bench-warm-up", _WARM_UP_RATE, load.warm_up)
        drain()
        return [*(_latency(rate, load.seconds) for rate in LATENCY_RATES), _backlog(load.backlog)]
    finally:
        api.stop(ENVIRONMENT, STREAMING)


def _latency(rate: int, duration: int) -> Measured:
    console.print(f"streaming: latency, {duration} s at {rate}/s")
    run_id = f"bench-latency-{rate}"
    since, began = datetime.now(UTC), time.monotonic()
    driver = driver_processes()
    before = cpu_seconds(driver)
    generator_cpu = generate(run_id, rate, duration)
    seconds = time.monotonic() - began
    used = cpu_seconds(driver) - before
    drain()
    store = load_settings("accounting", ENVIRONMENT).object_store
    latency = commit_latency(s3_client(store), store.lake_bucket, names(ENTITY).silver, run_id, since)
    if latency is None:
        raise ServiceError(f"run {run_id} left no {ENTITY} in silver; `make logs SERVICE={STREAMING}` tells why")
    return Measured(f"produced to silver at {rate}/s", told(latency), used / seconds, generator_cpu / seconds)


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
