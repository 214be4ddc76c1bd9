"""`crm-experiment bench --only starting`: what a start of Spark costs short jobs and the driver, with and without help.

Arms are the JVM as it is by default, with the class data archive, with the first compiler alone, and with both, in
shuffled order. CPU seconds are those of a job's Python and JVM from start to end; they suffer less than wall times
when the machine has other work.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from data_platform_core.jobs import job
from data_platform_core.lake.class_archive import archive_options, make_archive
from data_platform_core.lake.session import session_conf
from platform_experiments.bench.measuring import Bench, Measured, console

REPEATS = 3
_SEED = 20261125
_JAVA = "spark.driver.extraJavaOptions"
_FIRST_COMPILER = "-XX:TieredStopAtLevel=1"


@dataclass(frozen=True)
class _Spent:
    cpu_s: float
    wall_s: float


def measure(bench: Bench) -> Sequence[Measured]:
    """Print a Markdown table, median of REPEATS; leaves the driver stopped."""
    make_archive()
    arms = _arms(bench)
    with_driver = {arm: arms[arm] for arm in ("neither", "archive")}
    with bench.driver():
        bench.generate("starting", 300, 10)
        bench.drain()
    console.print("| job | arm | CPU s | wall s |\n|---|---|---|---|")
    _job("load of every entity, nothing new", arms, lambda _run, options: _load_once(bench, options))
    _job("import of a landed run", arms, lambda run, options: _import_once(bench, run, options))
    _job(
        "driver, from its start to 3,000 records committed",
        with_driver,
        lambda run, options: _drive_once(bench, run, options),
    )
    return ()


def _arms(bench: Bench) -> dict[str, str]:
    """JVM options by arm: ours without what makes a start sooner, then with it."""
    ours = session_conf(bench.settings("streaming"))[_JAVA].split()
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
        console.print(f"| {name} | {arm} | {_shown(cpu)} | {_shown(wall)} |", soft_wrap=True)


def _shown(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def _load_once(bench: Bench, options: str) -> _Spent:
    return _measured(bench, job("load-warehouse").in_environment(bench.environment), options)


def _import_once(bench: Bench, run: str, options: str) -> _Spent:
    day = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d}"
    sending = ("--sink", "lake", "--from", day, "--to", day, "--scale", "0.01", "--metrics-port", "0", "--quiet")
    bench.runtime.run(job("generate-backfill").in_environment(bench.environment, *sending, run_id=run))
    return _measured(bench, job("backfill-import").in_environment(bench.environment, run_id=run), options)


def _drive_once(bench: Bench, run: str, options: str) -> _Spent:
    bench.generate(run, 300, 10)
    began = time.monotonic()
    with bench.driver(_options(options)):
        bench.drain()
        used = sum(process.cpu_s for process in bench.driver_processes())
        return _Spent(used, time.monotonic() - began)


def _measured(bench: Bench, command: Sequence[str], options: str) -> _Spent:
    """A command of Spark's whose JVM may outlive it by a moment: its CPU counts too."""
    began = time.monotonic()
    done = bench.runtime.run(command, _options(options))
    return _Spent(done.cpu_s, time.monotonic() - began)


def _options(options: str) -> dict[str, str]:
    return {"CRM_SPARK__CONF": json.dumps({_JAVA: options})}
