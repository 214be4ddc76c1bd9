"""`crm-experiment bench --only restart --keys 26000000`: what a restart costs with a full deduplication window.

`--keys` may be repeated, in rising order: the window grows from one to the next. The keys are written straight into
silver (`window.py`). A few records wait in Kafka when the driver starts, so that its first batch has some.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from data_platform_core.contracts import load_contract
from data_platform_core.settings import load_settings
from data_platform_core.topology import load_topology
from embedded_stack import api
from embedded_stack.services import STREAMING
from platform_experiments import steps
from platform_experiments.bench.load import Load
from platform_experiments.bench.measuring import (
    DRAIN_SECONDS,
    ENTITY,
    ENVIRONMENT,
    Measured,
    console,
    driver_processes,
    generate,
)
from platform_experiments.bench.window import fill_window

_RATE, _SECONDS = 100, 5
_MB = 1024


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


def measure(load: Load) -> Sequence[Measured]:
    """Print a Markdown row for each number of keys; leaves the driver stopped."""
    settings, contract = load_settings("streaming", ENVIRONMENT), load_contract(ENTITY)
    _run_once("restart-first")
    console.print(
        "| keys | read back s | ready s | first batch s | Python peak MB | JVM peak MB |\n|---|---|---|---|---|---|"
    )
    known = 0
    for number, keys in enumerate(load.keys):
        with console.status(f"restart: writing {keys - known:,} keys into silver"):
            fill_window(settings, contract, keys - known)
        known = keys
        found = _restart(f"restart-{number}")
        cells = (f"{found.reading:.1f}", f"{found.ready:.0f}", f"{found.batch:.0f}")
        memory = (f"{found.python_mb:,.0f}", f"{found.jvm_mb:,.0f}")
        console.print(f"| {' | '.join((f'{found.keys:,}', *cells, *memory))} |", soft_wrap=True)
    return ()


def _run_once(run_id: str) -> None:
    """The keys carry the mark of a batch: there must be one."""
    api.start(ENVIRONMENT, STREAMING)
    try:
        generate(run_id, _RATE, _SECONDS)
        steps.drain(ENVIRONMENT, DRAIN_SECONDS)
    finally:
        api.stop(ENVIRONMENT, STREAMING)


def _restart(run_id: str) -> Restart:
    generate(run_id, _RATE, _SECONDS)
    began = time.monotonic()
    try:
        with console.status("restart: starting the driver"):
            api.start(ENVIRONMENT, STREAMING)
        ready = time.monotonic() - began
        steps.drain(ENVIRONMENT, DRAIN_SECONDS)
        batch = time.monotonic() - began
        python, *children = driver_processes()
        java = next(child for child in children if child.name() == "java")
        keys, reading = (_metric(f"crm_streaming_{name}") for name in ("state_keys", "recall_seconds"))
        return Restart(int(keys), reading, ready, batch, _peak_mb(python), _peak_mb(java))
    finally:
        api.stop(ENVIRONMENT, STREAMING)


def _metric(name: str) -> float:
    address = load_topology(ENVIRONMENT).metrics.streaming.address
    text = httpx.get(f"http://{address}/metrics", trust_env=False).text
    found = re.search(rf'^{name}{{entity="{ENTITY}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else float("nan")


def _peak_mb(process: psutil.Process) -> float:
    """The most resident memory that a process ever had."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) / _MB if found else float("nan")
