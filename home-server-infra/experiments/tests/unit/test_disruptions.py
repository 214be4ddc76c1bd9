"""When a disruption is over, and what its table says of one that lost something."""

from __future__ import annotations

import pytest
from rich.console import Console

from data_platform_core.errors import ConfigurationError
from platform_experiments.kubernetes.disruptions import DISRUPTIONS, Outcome, Plan, calm_since, choose, table
from platform_experiments.spike.sampling import Sample

pytestmark = pytest.mark.unit


def samples(*lags: int) -> list[Sample]:
    """One a second."""
    return [Sample(float(at), "", lag, 0, 0.0, 3, 1) for at, lag in enumerate(lags)]


def outcome(**equations: bool) -> Outcome:
    return Outcome("driver", "a pod was deleted", "run", 12_345, 41.0, equations)


def printed(*outcomes: Outcome) -> str:
    console = Console(width=200, record=True)
    console.print(table(outcomes, Plan(3000, 30, 120)))
    return console.export_text()


def test_lag_is_as_before_from_the_last_sample_above_it() -> None:
    assert calm_since(samples(5, 5, 90, 400, 70, 5, 4, 5), at=2, before=5) == 4


def test_a_single_calm_sample_between_two_batches_is_no_end() -> None:
    assert calm_since(samples(5, 90, 400, 5), at=1, before=5) is None


def test_a_disruption_that_nobody_noticed_ended_at_once() -> None:
    assert calm_since(samples(5, 5, 3, 4, 5), at=2, before=5) == 2


def test_without_samples_after_it_nothing_is_known() -> None:
    assert calm_since(samples(5, 5), at=2, before=5) is None


def test_all_are_chosen_unless_some_are_named() -> None:
    assert [each.name for each in choose([])] == list(DISRUPTIONS)
    assert [each.name for each in choose(["driver", "executor"])] == ["executor", "driver"]


def test_an_unknown_one_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="disruption 'node' is none of: executor, operator"):
        choose(["node"])


def test_a_broken_equation_is_named() -> None:
    assert "broken: A2" in printed(outcome(A1=True, A2=False))
    assert "A1, A2 hold" in printed(outcome(A1=True, A2=True))


def test_a_run_that_was_not_reconciled_is_not_accounted_for() -> None:
    assert not outcome().accounted
    assert "not evaluated" in printed(outcome())
