"""`crm-experiment bench --only settings`: the same load under one setting after the other, as a Markdown table.

Each round runs every arm once, in an order of its own; the table has each figure's median, and its range where rounds
differ. Each arm has a driver of its own, warmed; the topics keep what the arms before have sent. CPU is the driver's,
Python and JVM; it suffers less than wall times when the machine has other work. The share of the JVM's compilers
says how warm the driver was.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from statistics import median

from data_platform_core.errors import ConfigurationError
from data_platform_core.lake.session import CHECKPOINT_FILES, LOCAL_CHECKPOINT_FILES, session_conf
from data_platform_core.naming import names
from data_platform_core.settings import load_settings
from platform_experiments.bench.measuring import ENTITY, ENVIRONMENT, LATENCY_RATES, Bench, Measured, Used, console
from platform_experiments.runtime import Part

_WARM_UP_RATE = 3000
_JAVA = "spark.driver.extraJavaOptions"
_SEED = 20261128
_NAN = float("nan")


@dataclass(frozen=True)
class AtRate:
    """Latency in seconds, commits of the entity, CPU seconds of the driver per commit, its cores, compilers' share."""

    p50: float
    p95: float
    commits: float
    cpu_per_commit: float
    cores: float
    compilers: float


@dataclass(frozen=True)
class Figures:
    """What one arm had in one round: at each of LATENCY_RATES, idle (cores), from a backlog (records/s)."""

    rates: tuple[AtRate, ...]
    idle_cores: float
    backlog_per_s: float
    backlog_cpu_per_million: float

    def cells(self) -> tuple[float, ...]:
        """In the order of `columns`."""
        by_rate = [value for rate in self.rates for value in astuple(rate)]
        return (*by_rate, self.idle_cores, self.backlog_per_s, self.backlog_cpu_per_million)


def columns() -> tuple[str, ...]:
    """Headings of the table behind the arm."""
    what = ("p50 s", "p95 s", "commits", "CPU s per commit", "cores", "compilers' share")
    assert len(what) == len(fields(AtRate))
    by_rate = [f"{rate:,}/s: {name}" for rate in LATENCY_RATES for name in what]
    return (*by_rate, "idle cores", "backlog records/s", "CPU s per million")


def measure(bench: Bench) -> Sequence[Measured]:
    """Print the table; every arm is printed as it ends, so that an aborted bench has shown what it found."""
    arms = _chosen(bench.load.settings)
    found: dict[str, list[Figures]] = {arm: [] for arm in arms}
    for number in range(bench.load.rounds):
        for arm in random.Random(_SEED + number).sample(list(arms), len(arms)):
            console.print(f"settings, round {number + 1}/{bench.load.rounds}: {arm}")
            run_id = f"settings-{number}-{list(arms).index(arm)}"
            found[arm].append(_arm(bench, run_id, arms[arm]))
            console.print(f"  {_line(arm, found[arm][-1:])}", soft_wrap=True)
    table = [_row(("setting", *columns())), f"|{'---|' * (len(columns()) + 1)}"]
    console.print("\n".join([*table, *(_line(arm, figures) for arm, figures in found.items())]), soft_wrap=True)
    return ()


def _chosen(beginnings: Sequence[str]) -> dict[str, Mapping[str, str]]:
    """The arms whose names begin so, and the first, which the others are compared with."""
    every = _arms()
    for beginning in beginnings:
        if not any(arm.startswith(beginning) for arm in every):
            raise ConfigurationError(f"no setting begins with {beginning!r}; one of: {', '.join(every)}")
    first = next(iter(every))
    wanted = (*beginnings, first) if beginnings else ("",)
    return {arm: changes for arm, changes in every.items() if arm.startswith(wanted)}


def _line(arm: str, rounds: Sequence[Figures]) -> str:
    return _row((arm, *(_shown(values) for values in zip(*(figures.cells() for figures in rounds), strict=True))))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(values: Sequence[float]) -> str:
    """The median, with the range behind it where there are several values."""
    digits = 0 if max(values) >= 10 else 2
    middle = f"{median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def _arms() -> dict[str, Mapping[str, str]]:
    """Changes by arm, as variables of the streaming service; the first is what the platform does."""
    java = session_conf(load_settings("streaming", ENVIRONMENT))[_JAVA]

    def spark(**conf: str) -> dict[str, str]:
        return {"CRM_SPARK__CONF": json.dumps(conf)}

    # Spark's own values of what `session.py` sets against the fixed price of a batch.
    classes = {"spark.sql.codegen.cache.maxEntries": "100"}
    plans = {"spark.sql.ui.explainMode": "formatted", "spark.sql.maxPlanStringLength": "2147483632"}
    written = {"spark.databricks.delta.history.metricsEnabled": "true"}
    polling = {"spark.sql.streaming.pollingDelay": "10ms"}
    return {
        "as it is": {},
        "Spark's own: all of the next four": spark(**classes, **plans, **written, **polling),
        "100 compiled classes": spark(**classes),
        "whole plans as text": spark(**plans),
        "metrics of each write": spark(**written),
        "polling each 10 ms": spark(**polling),
        "economy": {"CRM_INGEST__PACE": "economy"},
        "trigger 500 ms": {"CRM_INGEST__TRIGGER_MS": "500"},
        "trigger 1 s": {"CRM_INGEST__TRIGGER_MS": "1000"},
        "trigger 2 s": {"CRM_INGEST__TRIGGER_MS": "2000"},
        "maxOffsetsPerTrigger 25,000": {"CRM_INGEST__MAX_OFFSETS_PER_TRIGGER": "25000"},
        "maxOffsetsPerTrigger 250,000": {"CRM_INGEST__MAX_OFFSETS_PER_TRIGGER": "250000"},
        "shuffle partitions 1": {"CRM_SPARK__SHUFFLE_PARTITIONS": "1"},
        "checkpoint files renamed": spark(**{CHECKPOINT_FILES: LOCAL_CHECKPOINT_FILES}),
        "compaction off": {"CRM_INGEST__COMPACT_EVERY_S": "0"},
        "compaction eager": {"CRM_INGEST__COMPACT_EVERY_S": "5", "CRM_INGEST__COMPACT_MIN_FILES": "10"},
        "small pages": spark(**{_JAVA: java.replace(" -XX:+UseTransparentHugePages", "")}),
        "G1 collector": spark(**{_JAVA: java.replace("UseParallelGC", "UseG1GC")}),
        "serial collector": spark(**{_JAVA: java.replace("UseParallelGC", "UseSerialGC")}),
        "first compiler only": spark(**{_JAVA: f"{java} -XX:TieredStopAtLevel=1"}),
        "local[4]": {"CRM_SPARK__MASTER": "local[4]"},
        "no generated code": spark(**{"spark.sql.codegen.wholeStage": "false"}),
    }


def _arm(bench: Bench, run_id: str, changes: Mapping[str, str]) -> Figures:
    load = bench.load
    with bench.driver(changes):
        bench.generate(f"{run_id}-warm-up", _WARM_UP_RATE, load.warm_up)
        bench.drain()
        rates = tuple(_at_rate(bench, f"{run_id}-{rate}", rate) for rate in LATENCY_RATES)
        idle = bench.driver_use()
        time.sleep(load.idle)
        idle_cores = idle().cores
        with bench.runtime.paused(Part.DRIVER):
            bench.flood(f"{run_id}-backlog", load.backlog)
        taking = bench.driver_use()
        rate = load.backlog / bench.drain()
        return Figures(rates, idle_cores, rate, taking().cpu_s / load.backlog * 1e6)


def _at_rate(bench: Bench, run_id: str, rate: int) -> AtRate:
    use, since = bench.driver_use(), datetime.now(UTC)
    bench.generate(run_id, rate, bench.load.seconds)
    used: Used = use()
    bench.drain()
    found = bench.latency(names(ENTITY).silver, run_id, since)
    if found is None:
        return AtRate(_NAN, _NAN, 0, _NAN, used.cores, used.compilers)
    each = used.cpu_s / found.commits
    return AtRate(found.p50, found.p95, found.commits, each, used.cores, used.compilers)
