"""The experiment's refusals and its record: pages that need nothing else, samples, folders."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from test_spike_results import arm_result

from data_platform_core.contracts import load_contract
from data_platform_core.errors import ConfigurationError
from platform_experiments.spike import plots, report
from platform_experiments.spike.arms import ARMS, ENTITY, choose
from platform_experiments.spike.experiment import Plan, check
from platform_experiments.spike.results import ArmResult

pytestmark = pytest.mark.unit

PLAN = Plan(
    seed=1, rate=3000, baseline_rate=100, baseline=20, ramp=15, hold=60, decay=15, recovery=20, partitions=12
)  # fmt: skip


@pytest.fixture(scope="module")
def results() -> Sequence[ArmResult]:
    return [
        arm_result(ARMS["baseline"], capacity=500),
        arm_result(ARMS["partitions"], capacity=800, partitions=12, equations={"A1": True, "A3": False}),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, results: Sequence[ArmResult]) -> Path:
    """A report, written once: drawing it takes seconds."""
    written = tmp_path_factory.mktemp("reports") / "spike"
    report.write(
        written,
        report.Facts("crm-experiment spike --hold 60", "a cluster of the test", date(2026, 1, 2), PLAN, results),
    )
    return written


@pytest.mark.parametrize("name", report.PLOTS)
def test_no_legend_and_no_label_of_a_chart_is_cut_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "svg", lambda figure: drawn.append(figure) or "")
    report.PLOTS[name][1]([arm_result(arm, capacity=500) for arm in ARMS.values()])
    (figure,) = drawn
    figure.draw_without_rendering()
    (axes,) = figure.axes
    page = figure.bbox
    for part in (*figure.legends, axes.title, axes.xaxis.label, axes.get_yticklabels()[-1], axes):
        box = part.get_window_extent()
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, part
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, part


def test_arms_are_chosen_by_name_in_the_experiments_order() -> None:
    assert [arm.name for arm in choose(["all", "baseline"])] == ["baseline", "all"]
    assert [arm.name for arm in choose([])] == list(ARMS)


def test_an_unknown_arm_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"arm 'prayer' is not one of .*baseline, minpartitions"):
        choose(["baseline", "prayer"])


def test_fewer_partitions_than_there_are_are_refused_before_anything_starts() -> None:
    known = load_contract(ENTITY).topic.partitions
    with pytest.raises(ConfigurationError, match=f"give {known + 1} or more"):
        check(Plan(1, 3000, 100, 20, 15, 60, 15, 20, partitions=known))
    check(PLAN)


def test_the_generator_gets_the_plan_unchanged() -> None:
    plan = Plan(20261121, 3000, 100, 20, 15, 60, 15, 20.5, partitions=12)
    assert plan.options[:4] == ["--seed", "20261121", "--rate", "3000"]
    assert plan.options[-2:] == ["--recovery", "20.5"]


def test_every_arm_begins_with_the_same_capacity() -> None:
    at_start = (
        "CRM_EXPERIMENT__RECORD_COST_US",
        "CRM_SPARK__EXECUTOR_CORES",
        "CRM_INGEST__MAX_OFFSETS_PER_TRIGGER",
    )
    assert len({tuple(arm.settings[name] for name in at_start) for arm in ARMS.values()}) == 1


def test_the_page_needs_nothing_else(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", page.replace("xlink:href", "href"))
    assert page.count("<svg") == len(report.PLOTS)

    class Balance(HTMLParser):
        depth = 0

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.depth += tag == "table"

        def handle_endtag(self, tag: str) -> None:
            self.depth -= tag == "table"

    balance = Balance()
    balance.feed(page)
    assert balance.depth == 0


def test_the_report_has_setting_summary_conclusion_and_each_equation(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    for part in ("## Setting", "## Summary", "## Conclusion", "## Order per key", "crm-experiment spike --hold 60"):
        assert part in text
    assert "| baseline | 30,000 |" in text
    assert "FAIL A3" in text
    assert "2026-01-02" in text


def test_every_plot_of_the_report_is_beside_it(folder: Path) -> None:
    named = re.findall(r"\]\((\S+\.svg)\)", (folder / "report.md").read_text())
    assert sorted(named) == sorted(path.name for path in folder.glob("*.svg"))


def test_the_samples_are_kept_one_row_a_second(folder: Path, results: Sequence[ArmResult]) -> None:
    with (folder / "samples-baseline.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(results[0].samples)
    assert max(int(row["lag"]) for row in rows) == results[0].peak_lag


def test_the_same_results_make_the_same_bytes(folder: Path, results: Sequence[ArmResult]) -> None:
    again = folder.parent / "again"
    report.write(
        again, report.Facts("crm-experiment spike --hold 60", "a cluster of the test", date(2026, 1, 2), PLAN, results)
    )
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_a_second_experiment_of_a_day_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    first = report.folder_for(date(2026, 1, 2), tmp_path)
    first.mkdir()
    assert report.folder_for(date(2026, 1, 2), tmp_path).name == f"{first.name}-2"
