"""`crm-experiment bench --only restart --keys 26000000`: what a restart costs with a full deduplication window.

`--keys` may be repeated, in rising order: the window grows from one to the next. The keys are written straight into
silver (`window.py`). A few records wait in Kafka when the driver starts, so that its first batch has some.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from data_platform_core.access.names import STREAMING
from data_platform_core.contracts import load_contract
from platform_experiments.bench.measuring import ENTITY, Bench, Measured, console
from platform_experiments.bench.window import fill_window

_RATE, _SECONDS = 100, 5


@dataclass(frozen=True)
class Restart:
    """Seconds: `reading` the keys, `ready` from the start until every query runs, `batch` until records are in silver.

    Peaks of resident memory of the driver's Python and of its JVM, MB.
    """

    keys: int
    reading: float
    ready: float
    batch: float
    python_mb: float
    jvm_mb: float


def measure(bench: Bench) -> Sequence[Measured]:
    """Print a Markdown row for each number of keys; leaves the driver stopped."""
    settings, contract = bench.settings("streaming"), load_contract(ENTITY)
    with bench.driver():  # the keys have the tag of a batch: there must be one
        bench.generate("restart-first", _RATE, _SECONDS)
        bench.drain()
    console.print(
        "| keys | read back s | ready s | first batch s | Python peak MB | JVM peak MB |\n|---|---|---|---|---|---|"
    )
    known = 0
    for number, keys in enumerate(bench.load.keys):
        with console.status(f"restart: writing {keys - known:,} keys into silver"):
            fill_window(settings, contract, keys - known)
        known = keys
        found = _restart(bench, f"restart-{number}")
        cells = (f"{found.reading:.1f}", f"{found.ready:.0f}", f"{found.batch:.0f}")
        memory = (f"{found.python_mb:,.0f}", f"{found.jvm_mb:,.0f}")
        console.print(f"| {' | '.join((f'{found.keys:,}', *cells, *memory))} |", soft_wrap=True)
    return ()


def _restart(bench: Bench, run_id: str) -> Restart:
    bench.generate(run_id, _RATE, _SECONDS)
    began = time.monotonic()
    try:
        with console.status("restart: starting the driver"):
            bench.runtime.start(STREAMING)
        ready = time.monotonic() - began
        bench.drain()
        batch = time.monotonic() - began
        python, *children = bench.driver_processes()
        # The JVM is a process of its own here; in a container its memory is in the first figure.
        jvm_mb = max((child.peak_mb for child in children if child.program == "java"), default=float("nan"))
        keys, reading = (_metric(bench, f"crm_streaming_{name}") for name in ("state_keys", "recall_seconds"))
        return Restart(int(keys), reading, ready, batch, python.peak_mb, jvm_mb)
    finally:
        bench.runtime.stop(STREAMING)


def _metric(bench: Bench, name: str) -> float:
    address = bench.runtime.topology.metrics.streaming.address
    text = httpx.get(f"http://{address}/metrics", trust_env=False).text
    found = re.search(rf'^{name}{{entity="{ENTITY}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else float("nan")
