"""What streaming sustains from a backlog, and how long a record takes to silver.

The driver is warm (a period of the fastest traffic first), and everything shares the machine: three brokers, object
store, generator and Spark.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from data_platform_core.access.names import STREAMING
from data_platform_core.errors import ServiceError
from data_platform_core.naming import names
from platform_experiments.bench.measuring import ENTITY, LATENCY_RATES, Bench, Measured, console, shown
from platform_experiments.runtime import Part

_WARM_UP_RATE = 3000


def measure(bench: Bench) -> Sequence[Measured]:
    """Latency at each rate, then the backlog; leaves the driver stopped."""
    load = bench.load
    with bench.driver():
        console.print(f"streaming: warming the driver, {load.warm_up} s at {_WARM_UP_RATE}/s")
        bench.generate("bench-warm-up", _WARM_UP_RATE, load.warm_up)
        bench.drain()
        return [*(_latency(bench, rate) for rate in LATENCY_RATES), _backlog(bench)]


def _latency(bench: Bench, rate: int) -> Measured:
    duration = bench.load.seconds
    console.print(f"streaming: latency, {duration} s at {rate}/s")
    run_id = f"bench-latency-{rate}"
    since, use = datetime.now(UTC), bench.driver_use()
    generator_cpu = bench.generate(run_id, rate, duration)
    used = use()
    bench.drain()
    latency = bench.latency(names(ENTITY).silver, run_id, since)
    if latency is None:
        logs = bench.runtime.command("logs", SERVICE=STREAMING)
        raise ServiceError(f"run {run_id} left no {ENTITY} in silver; `{logs}` shows why")
    value = f"{shown(latency)}; {used.cpu_s / latency.commits:.2f} CPU s per commit; {used}"
    return Measured(f"produced to silver at {rate}/s", value, used.cores, generator_cpu / used.seconds)


def _backlog(bench: Bench) -> Measured:
    records = bench.load.backlog
    console.print(f"streaming: backlog, {records:,} {ENTITY} while the driver is paused, then all at once")
    with bench.runtime.paused(Part.DRIVER):
        bench.flood("bench-backlog", records)
    use = bench.driver_use()
    seconds = bench.drain()
    used = use()
    value = (
        f"{records / seconds:,.0f} records/s ({seconds:.1f} s until bronze and silver had them); "
        f"{used.cpu_s / records * 1e6:.1f} CPU s per million; {used}"
    )
    return Measured(f"backlog of {records:,} {ENTITY}", value, used.cores, None)
