"""The report: what a person reads, what a program reads, and that they agree."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from data_platform_core.accounting.report import EntityCounts, Finding, Report, as_json, render, write_json
from data_platform_core.accounting.verdict import Violation

pytestmark = pytest.mark.unit

COUNTS = EntityCounts("orders", 1200, 1199, 1200, 1180, 8, 7, 5, 1188, None)
LOST = Finding("A1", "orders", (Violation("acknowledged but not in bronze", 2, ("crm.orders.v1/0/4", "x/0/5")),))
GOOD = Report("run-1", (COUNTS,), (Finding("A1", "orders", ()),), 3.21, compared=1_234_567, compared_s=20.04)
BAD = Report("run-1", (COUNTS,), (LOST,), 60.0, unfinished=(2,))


def printed(report: Report) -> list[str]:
    console = Console(file=io.StringIO(), width=120)
    render(report, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_report_without_violations_ends_with_pass() -> None:
    lines = printed(GOOD)
    assert lines[-1] == "PASS"
    assert not any("FAIL" in line for line in lines)
    assert sum(line.startswith("A") for line in lines) == 8
    assert any(line.startswith("A7 PASS") and "3.2 s" in line for line in lines)
    assert any(line.startswith("A8 PASS") and line.endswith("(1,234,567 records in 20.0 s)") for line in lines)


def test_a_violation_is_printed_under_its_equation_and_ends_with_fail() -> None:
    lines = printed(BAD)
    assert lines[-1] == "FAIL"
    at = next(number for number, line in enumerate(lines) if line.startswith("A1 FAIL"))
    assert lines[at + 1].strip() == "orders: 2 acknowledged but not in bronze: crm.orders.v1/0/4, x/0/5"
    assert sum("PASS" in line for line in lines) == 7


def test_a_producer_that_was_killed_is_mentioned() -> None:
    assert any(line.startswith("producer 2 did not end cleanly") for line in printed(BAD))


def test_the_table_has_a_row_per_entity_and_a_dash_for_what_is_not_there() -> None:
    (row,) = [line for line in printed(GOOD) if "orders" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["orders", "1,200", "1,199", "1,200", "1,180", "8", "7", "5", "1,188", "-"]


def test_the_file_has_the_same_content(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json(BAD, path)
    assert list(tmp_path.iterdir()) == [path]
    read = json.loads(path.read_text())
    assert read == json.loads(json.dumps(as_json(BAD)))
    assert (read["passed"], read["equations"]["A1"]["holds"], read["equations"]["A2"]["holds"]) == (False, False, True)
    assert read["equations"]["A1"]["violations"][0]["entity"] == "orders"
    assert read["counts"][0]["marts"] is None
