"""Which settings a bench compares."""

from __future__ import annotations

import pytest

from data_platform_core.errors import ConfigurationError
from data_platform_core.settings import known_variables
from platform_experiments.bench.settings import _arms, _chosen
from platform_experiments.bench.subject import AtRate, Figures, columns, table_line

pytestmark = pytest.mark.unit


def test_all_are_compared_when_none_is_named() -> None:
    assert _chosen(()) == _arms()


def test_those_named_are_compared_with_what_the_platform_does() -> None:
    chosen = list(_chosen(("trigger", "compaction off")))
    assert chosen == ["as it is", "trigger 500 ms", "trigger 2 s", "compaction off"]


def test_a_setting_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no setting begins with 'tigger'; one of: as it is, .*trigger 2 s"):
        _chosen(("trigger", "tigger"))


def test_every_change_is_a_setting() -> None:
    assert {name for changes in _arms().values() for name in changes} <= known_variables()


def figures(p50: float, backlog: float) -> Figures:
    return Figures((AtRate(p50, 2.0, 60, 1.1, 0.9, 0.08), AtRate(1.2, 2.4, 55, 1.4, 1.1, 0.1)), 0.05, backlog, 12.5)


def test_every_figure_has_a_heading() -> None:
    assert len(figures(1.0, 50_000).cells()) == len(columns())


def test_rounds_that_differ_are_shown_as_median_and_range() -> None:
    line = table_line("as it is", [figures(1.0, 50_000), figures(1.4, 40_000), figures(1.1, 48_000)])
    assert line.startswith("| as it is | 1.10 (1.00-1.40) |")
    assert "48,000 (40,000-50,000)" in line
