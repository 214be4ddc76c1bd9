"""`crm-stack bench --only starting`: what a start of Spark costs short jobs and the driver, with and without help.

Arms are the JVM as it is by default, with the class data archive, with the first compiler alone, and with both, in
shuffled order. CPU seconds are those of a job's Python and JVM from start to end; they suffer less than wall times
when the machine has other work.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from data_platform_core.lake.class_archive import archive_options, make_archive
from data_platform_core.lake.session import session_conf
from data_platform_core.settings import load_settings
from embedded_stack import api, steps
from embedded_stack.bench.load import Load
from embedded_stack.bench.measuring import (
    DRAIN_SECONDS,
    ENVIRONMENT,
    GENERATOR,
    Measured,
    console,
    cpu_seconds,
    driver_processes,
    generate,
)
from embedded_stack.bench.settings import driver_under
from embedded_stack.services import STREAMING

REPEATS = 3
_SEED = 20261125
_JAVA = "spark.driver.extraJavaOptions"
_FIRST_COMPILER = "-XX:TieredStopAtLevel=1"
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)
_CRM = steps.command_path("crm")


@dataclass(frozen=True)
class _Spent:
    cpu_s: float
    wall_s: float


def measure(_load: Load) -> Sequence[Measured]:
    """Print a Markdown table, median of REPEATS; leaves the driver stopped."""
    make_archive()
    arms = _arms()
    with_driver = {arm: arms[arm] for arm in ("neither", "archive")}
    api.start(ENVIRONMENT, STREAMING)
    try:
        generate("starting", 300, 10)
        steps.drain(ENVIRONMENT, DRAIN_SECONDS)
    finally:
        api.stop(ENVIRONMENT, STREAMING)
    console.print("| job | arm | CPU s | wall s |\n|---|---|---|---|")
    _job("load of every entity, nothing new", arms, _load_once)
    _job("import of a landed run", arms, _import_once)
    _job("driver, from its start to 3,000 records committed", with_driver, _drive_once)
    return ()


def _arms() -> dict[str, str]:
    """JVM options by arm: ours without what makes a start sooner, then with it."""
    ours = session_conf(load_settings("streaming", ENVIRONMENT))[_JAVA].split()
    plain = [option for option in ours if option not in archive_options()]
    archive, first = list(archive_options()), [_FIRST_COMPILER]
    arms = {"neither": [], "archive": archive, "first compiler": first, "both": archive + first}
    return {arm: " ".join(plain + more) for arm, more in arms.items()}


def _job(name: str, arms: Mapping[str, str], once: Callable[[str, str], _Spent]) -> None:
    runs = [(arm, number) for arm in arms for number in range(REPEATS)]
    random.Random(_SEED).shuffle(runs)
    spent: dict[str, list[_Spent]] = {arm: [] for arm in arms}
    for arm, number in runs:
        with console.status(f"starting: {name}, {arm}"):
            spent[arm].append(once(f"{arm}-{number}".replace(" ", "-"), arms[arm]))
    for arm, found in spent.items():
        cpu, wall = [each.cpu_s for each in found], [each.wall_s for each in found]
        console.print(f"| {name} | {arm} | {_told(cpu)} | {_told(wall)} |", soft_wrap=True)


def _told(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def _load_once(_run: str, options: str) -> _Spent:
    return _measured([_CRM, "--env", ENVIRONMENT, "load"], options)


def _import_once(run: str, options: str) -> _Spent:
    day = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d}"
    send = [GENERATOR, "backfill", "--env", ENVIRONMENT, "--run-id", run, "--sink", "lake", "--from", day, "--to", day]
    steps.checked([*send, "--scale", "0.01", "--metrics-port", "0", "--quiet"])
    return _measured([_CRM, "--env", ENVIRONMENT, "lake", "import", "--run-id", run], options)


def _drive_once(run: str, options: str) -> _Spent:
    generate(run, 300, 10)
    began = time.monotonic()
    with driver_under({"CRM_SPARK__CONF": json.dumps({_JAVA: options})}):
        steps.drain(ENVIRONMENT, DRAIN_SECONDS)
        return _Spent(cpu_seconds(driver_processes()), time.monotonic() - began)


def _measured(command: Sequence[str], options: str) -> _Spent:
    """Run a command whose JVM outlives it by a moment: a process of its own adopts it and counts its CPU."""
    environment = {**os.environ, "CRM_SPARK__CONF": json.dumps({_JAVA: options})}
    began = time.monotonic()
    counted = [sys.executable, "-m", "embedded_stack.bench.starting", *command]
    used = steps.checked(["env", *(f"{k}={v}" for k, v in environment.items() if k.startswith("CRM_")), *counted])
    return _Spent(float(used.split()[-1]), time.monotonic() - began)


def _count(command: Sequence[str]) -> float:
    """Run `command`, wait for it and for whatever it leaves behind; CPU seconds of all of them."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    done = subprocess.run(command, check=False, stdout=sys.stderr)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    if done.returncode:
        raise SystemExit(done.returncode)
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(_count(sys.argv[1:]))
