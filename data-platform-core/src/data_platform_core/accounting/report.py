"""The report of a run: one table, one line per equation, PASS or FAIL; the same as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from data_platform_core.accounting.verdict import Violation

EQUATIONS: Final = {
    "A1": "no loss: what was acknowledged is in bronze",
    "A2": "no invention: what is in bronze was sent, once",
    "A3": "offsets: each offset of the topic is in bronze once",
    "A4": "conservation: bronze = silver + late + DLQ + duplicates",
    "A5": "sums: warehouse and marts = silver, per day and kind",
    "A6": "order: per key nothing overtakes",
    "A7": "liveness: topics drained",
    "A8": "content: bytes as sent; silver, landing and marts as recomputed",
}
# What the table needs: a pipe has no width of its own, and would get 80 columns.
_PIPE_WIDTH: Final = 120


@dataclass(frozen=True)
class EntityCounts:
    """Rows of the run by stage; None where the table is missing. `silver` is what was on time."""

    entity: str
    produced: int
    acknowledged: int
    bronze: int
    silver: int
    late: int
    dlq: int
    duplicates: int
    warehouse: int | None
    marts: int | None


@dataclass(frozen=True)
class Finding:
    """What one equation says of one entity."""

    equation: str
    entity: str
    violations: tuple[Violation, ...]


@dataclass(frozen=True)
class Report:
    """All that is known of a run. `drained_s`: seconds until the topics were drained, from the moment of asking.

    `compared`: records of bronze whose content was compared, in `compared_s` seconds.
    """

    run_id: str
    counts: tuple[EntityCounts, ...]
    findings: tuple[Finding, ...]
    drained_s: float
    unfinished: tuple[int, ...] = ()
    compared: int = 0
    compared_s: float = 0.0

    @property
    def passed(self) -> bool:
        return not any(finding.violations for finding in self.findings)

    def broken(self, equation: str) -> list[Finding]:
        """The findings of an equation that does not hold."""
        return [finding for finding in self.findings if finding.equation == equation and finding.violations]


def plain_console() -> Console:
    """A console on stdout that is wide enough for the report."""
    return Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)


def render(report: Report, console: Console) -> None:
    """Print the report."""
    console.print(_table(report))
    console.print(
        "marts: rows of facts; of products and profiles, keys whose newest version is of this run", style="dim"
    )
    if report.unfinished:
        producers = ", ".join(map(str, report.unfinished))
        console.print(f"producer {producers} did not end cleanly: its last sends without an outcome may be anywhere")
    for equation, meaning in EQUATIONS.items():
        broken = report.broken(equation)
        verdict = "[bold red]FAIL[/]" if broken else "[green]PASS[/]"
        extra = "" if broken else _took(report, equation)
        console.print(f"{equation} {verdict}  {meaning}{extra}", highlight=False)
        for finding in broken:
            for violation in finding.violations:
                console.print(f"         {finding.entity}: {violation}", highlight=False, soft_wrap=True, markup=False)
    console.print("[bold green]PASS[/]" if report.passed else "[bold red]FAIL[/]")


def _took(report: Report, equation: str) -> str:
    if equation == "A7":
        return f" in {report.drained_s:.1f} s"
    return f" ({report.compared:,} records in {report.compared_s:.1f} s)" if equation == "A8" else ""


def _table(report: Report) -> Table:
    table = Table(title=f"run {report.run_id}", title_justify="left")
    columns = [field.name for field in fields(EntityCounts)]
    for column in columns:
        table.add_column("DLQ" if column == "dlq" else column, justify="left" if column == "entity" else "right")
    for counts in report.counts:
        table.add_row(*(_cell(getattr(counts, column)) for column in columns))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "run_id": report.run_id,
        "passed": report.passed,
        "drained_s": round(report.drained_s, 1),
        "compared": report.compared,
        "compared_s": round(report.compared_s, 1),
        "unfinished_producers": list(report.unfinished),
        "counts": [asdict(counts) for counts in report.counts],
        "equations": {
            equation: {
                "holds": not report.broken(equation),
                "violations": [
                    {"entity": finding.entity, **asdict(violation)}
                    for finding in report.broken(equation)
                    for violation in finding.violations
                ],
            }
            for equation in EQUATIONS
        },
    }


def write_json(report: Report, path: Path) -> None:
    """Write the report; the file is whole or not there."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(as_json(report), indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
