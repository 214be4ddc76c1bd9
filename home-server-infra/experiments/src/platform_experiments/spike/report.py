"""The record of an experiment: a Markdown report, a page that needs nothing else, and the samples themselves."""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import jinja2

from data_platform_core.accounting.report import EQUATIONS
from data_platform_core.errors import ConfigurationError
from data_platform_core.paths import REPOSITORY_ROOT
from platform_experiments.spike import conclusion, plots
from platform_experiments.spike.arms import ENTITY, EXECUTOR_SLOTS, MAX_OFFSETS, RECORD_COST_US
from platform_experiments.spike.experiment import Plan
from platform_experiments.spike.results import CONSUMER, ArmResult

EXPERIMENTS = REPOSITORY_ROOT / "docs" / "ai-context" / "experiments"
_TEMPLATES = Path(__file__).parent / "templates"
PLOTS = {
    "lag-records": ("Lag in records", plots.lag_records),
    "lag-seconds": ("Lag in seconds: the age of the oldest waiting record", plots.lag_seconds),
    "rates": ("Rate in and rates out", plots.rates),
    "latency": ("Latency: from produced to visible in silver", plots.latency),
    "executors": ("Executors", plots.executors),
    "cores": ("Cores used by the consumer", plots.cores),
}


@dataclass(frozen=True)
class Facts:
    """What both templates say."""

    command: str
    cluster: str
    day: date
    plan: Plan
    results: Sequence[ArmResult]

    def values(self) -> dict[str, object]:
        header, rows = table(self.results)
        return {
            "command": self.command,
            "cluster": self.cluster,
            "date": self.day.isoformat(),
            "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
            "plan": self.plan,
            "entity": ENTITY,
            "cost_ms": RECORD_COST_US / 1000,
            "slots": EXECUTOR_SLOTS,
            "max_offsets": MAX_OFFSETS,
            "header": header,
            "rows": rows,
            "results": self.results,
            "equations": EQUATIONS,
            "conclusions": conclusion.conclusions(self.results),
            "order": conclusion.order(self.results),
            "plots": {name: title for name, (title, _) in PLOTS.items()},
        }


def table(results: Sequence[ArmResult]) -> tuple[list[str], list[list[str]]]:
    """The summary, as text: (header, rows)."""
    header = [
        "arm", "peak lag, records", "peak lag, s", "out while held, /s", "best 15 s, /s", "drained after hold, s",
        "p50 / p95 to silver, s", "executors", "partitions", "consumer cores", "A1-A8",
    ]  # fmt: skip
    return header, [_row(result) for result in results]


def _row(result: ArmResult) -> list[str]:
    p50, p95, _ = result.waits.percentiles()
    failed = [name for name, holds in result.equations.items() if not holds]
    return [
        result.arm.name,
        f"{result.peak_lag:,}",
        f"{result.peak_lag_seconds:.0f}",
        f"{result.rate_out:,.0f}",
        f"{result.capacity:,.0f}",
        "not" if result.drain_s is None else f"{result.drain_s:.0f}",
        f"{p50:.1f} / {p95:.1f}",
        f"{result.executors}",
        f"{result.partitions}",
        f"{result.cores(*CONSUMER):.2f}",
        "PASS" if result.accounted else f"FAIL {' '.join(failed)}",
    ]


def folder_for(day: date, parent: Path = EXPERIMENTS) -> Path:
    """`<day>-spike`, with a number behind it when there is one already."""
    for number in range(1, 100):
        suffix = "" if number == 1 else f"-{number}"
        folder = parent / f"{day.isoformat()}-spike{suffix}"
        if not folder.exists():
            return folder
    raise ConfigurationError(f"{parent} has 99 experiments of {day}; give another folder with --out")


def write(folder: Path, facts: Facts) -> None:
    """Write `report.md`, `report.html`, the plots and the samples. Same results, same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {name: draw(facts.results) for name, (_, draw) in PLOTS.items()}
    for name, text in drawn.items():
        (folder / f"{name}.svg").write_text(text, encoding="utf-8")
    for result in facts.results:
        write_samples(folder / f"samples-{result.arm.name}.csv", result)
    values = facts.values()
    for template in ("report.md", "report.html"):
        (folder / template).write_text(render(template, values, drawn), encoding="utf-8")


def render(template: str, values: Mapping[str, object], drawn: Mapping[str, str]) -> str:
    """A template of this package, filled."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=template.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{template}.j2").render(**values, drawn=drawn)


def write_samples(path: Path, result: ArmResult) -> None:
    """One row a second, as it was taken."""
    parts = sorted({part for sample in result.samples for part in sample.cpu})
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(
            ["at_s", "phase", "produced", "committed", "lag", "lag_s", "partitions", "executors"]
            + [f"cpu_s_{part.replace(' ', '_')}" for part in parts]
        )
        for sample in result.samples:
            rows.writerow(
                [f"{sample.at:.2f}", sample.phase, sample.produced, sample.committed, sample.lag]
                + [f"{sample.lag_seconds:.2f}", sample.partitions, sample.executors]
                + [f"{sample.cpu.get(part, 0.0):.2f}" for part in parts]
            )
