"""`crm-experiment bench --only settings`: the same load under one setting after the other, as a Markdown table.

Each arm has a driver of its own, warmed; the topics keep what the arms before have sent. CPU seconds are the driver's,
Python and JVM; they suffer less than wall times when the machine has other work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from data_platform_core.errors import ConfigurationError
from data_platform_core.lake.session import CHECKPOINT_FILES, LOCAL_CHECKPOINT_FILES, session_conf
from data_platform_core.naming import names
from data_platform_core.settings import load_settings
from platform_experiments.bench.measuring import ENTITY, ENVIRONMENT, Bench, Measured, console
from platform_experiments.runtime import Part

_RATE = 3000
_JAVA = "spark.driver.extraJavaOptions"


@dataclass(frozen=True)
class _Row:
    arm: str
    cells: tuple[str, ...]


def measure(bench: Bench) -> Sequence[Measured]:
    """Print the table; every arm is printed as it ends, so that an aborted bench has shown what it found."""
    rows: list[_Row] = []
    arms = _chosen(bench.load.settings)
    for number, (arm, changes) in enumerate(arms.items()):
        console.print(f"settings {number + 1}/{len(arms)}: {arm}")
        rows.append(_Row(arm, _arm(bench, f"settings-{number}", changes)))
        console.print(f"  {_line(rows[-1])}", soft_wrap=True)
    columns = ("setting", "p50 s", "p95 s", "commits", "CPU s per commit", "driver cores", "backlog records/s")
    table = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *(_line(row) for row in rows)]
    console.print("\n".join(table), soft_wrap=True)
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


def _line(row: _Row) -> str:
    return f"| {' | '.join((row.arm, *row.cells))} |"


def _arms() -> dict[str, Mapping[str, str]]:
    """Changes by arm, as variables of the streaming service; the first is what the platform does."""
    java = session_conf(load_settings("streaming", ENVIRONMENT))[_JAVA]

    def spark(**conf: str) -> dict[str, str]:
        return {"CRM_SPARK__CONF": json.dumps(conf)}

    return {
        "as it is": {},
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


def _arm(bench: Bench, run_id: str, changes: Mapping[str, str]) -> tuple[str, ...]:
    load = bench.load
    with bench.driver(changes):
        bench.generate(f"{run_id}-warm-up", _RATE, load.warm_up)
        bench.drain()
        driver_cpu, since, began = bench.driver_cpu(), datetime.now(UTC), time.monotonic()
        bench.generate(run_id, _RATE, load.seconds)
        bench.drain()
        used, spent = driver_cpu(), time.monotonic() - began
        found = bench.latency(names(ENTITY).silver, run_id, since)
        with bench.runtime.paused(Part.DRIVER):
            bench.flood(f"{run_id}-backlog", load.backlog)
        rate = load.backlog / bench.drain()
    if found is None:
        return ("-", "-", "0", "-", f"{used / spent:.2f}", f"{rate:,.0f}")
    each = used / found.commits
    latency = (f"{found.p50:.2f}", f"{found.p95:.2f}", str(found.commits))
    return (*latency, f"{each:.2f}", f"{used / spent:.2f}", f"{rate:,.0f}")
