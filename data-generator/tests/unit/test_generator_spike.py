"""The spike: its shape to the record, its share among several producers, and the report when it can't be kept."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from data_generator.load.pacing import Pacer
from data_generator.load.shapes import Flat, Share, Spike, due_by, due_times, phase_at
from data_generator.load.tally import Tally, merged, shortfall
from data_generator.metrics import RunCollector
from data_generator.scenario import Scenario, load_scenario, scenario_path
from data_generator.status import Counts, Status, added, together
from data_platform_core.errors import ConfigurationError
from data_platform_core.wire.ledger import PhaseCount

pytestmark = pytest.mark.unit

SPIKE = Spike(low=10, high=100, baseline_s=5, ramp_s=4, hold_s=6, decay_s=2, recovery_s=3)


def spike(**overrides: Any) -> Scenario:
    return load_scenario(scenario_path("spike"), overrides)


def refusal(**overrides: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        spike(**overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def between(times: list[float], begin: float, end: float) -> int:
    return sum(begin <= time < end for time in times)


def test_each_phase_makes_due_what_its_rate_and_its_seconds_say() -> None:
    times = list(due_times(SPIKE, None))
    assert len(times) == 5 * 10 + 4 * 55 + 6 * 100 + 2 * 55 + 3 * 10
    counts = [between(times, begin, end) for begin, end in pairwise((0, 5, 9, 15, 17, 20))]
    assert counts == [pytest.approx(number, abs=1) for number in (50, 220, 600, 110, 30)]
    assert all(before < after for before, after in pairwise(times))


def test_the_slopes_are_straight_and_meet_the_levels() -> None:
    assert [SPIKE.rate(at) for at in (0, 4.99, 5, 7, 9, 14.9, 15, 16, 17, 19.9, 500)] == pytest.approx(
        [10, 10, 10, 55, 100, 100, 100, 55, 10, 10, 10]
    )


def test_the_phases_follow_each_other_at_their_bounds() -> None:
    assert [phase_at(SPIKE, at) for at in (0, 5, 8.9, 9, 15, 17, 19, 99)] == [
        "baseline", "ramp", "ramp", "hold", "decay", "recovery", "recovery", "recovery",
    ]  # fmt: skip


def test_a_phase_of_no_seconds_is_left_out() -> None:
    jump = Spike(low=10, high=100, baseline_s=0, ramp_s=0, hold_s=2, decay_s=0, recovery_s=1)
    assert len(list(due_times(jump, None))) == 210
    assert (phase_at(jump, 0), phase_at(jump, 2)) == ("hold", "recovery")


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_producers_that_share_a_shape_together_send_exactly_what_one_would(of: int) -> None:
    shares = [list(due_times(SPIKE, None, Share(number, of))) for number in range(of)]
    assert sorted(time for share in shares for time in share) == list(due_times(SPIKE, None))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("share", [Share(), Share(0, 3), Share(2, 3)])
@pytest.mark.parametrize("until", [0.0, 0.05, 5.0, 7.3, 12.0, 20.0])
def test_what_is_due_by_a_moment_is_counted_without_listing_it(share: Share, until: float) -> None:
    expected = sum(time < until - 1e-9 for time in due_times(SPIKE, None, share))
    assert due_by(SPIKE, until, share) == pytest.approx(expected, abs=1)
    if until == 20.0:
        assert due_by(SPIKE, until, share) == expected


def test_the_scenario_that_comes_with_the_generator_goes_from_100_to_3000_for_five_minutes() -> None:
    scenario = spike()
    shape = scenario.shape(datetime(2026, 11, 21, tzinfo=UTC))
    assert scenario.lasts_s == 480
    assert [shape.rate(at) for at in (0, 75, 90, 389, 405, 479)] == pytest.approx(
        [100, 1_550, 3_000, 3_000, 1_550, 100]
    )


def test_of_two_producers_each_models_half_the_visitors() -> None:
    assert spike().among(2).rate.high == 1_500
    assert spike().among(1) == spike()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"spike.hold_s": 0}, "spike.hold_s is 0"),
        ({"spike.ramp_s": -3}, "spike.ramp_s is -3"),
        ({"spike.peak_s": 3}, "unknown key spike.peak_s (value 3)"),
        ({"rate.high": 50}, "rate: low (100) must not be above high (50)"),
        ({"rate.high": 2e6}, "rate.high is 2000000.0: input should be less than or equal to 1000000"),
        ({"curve.flat": True}, "curve (the day, --flat) and spike (its phases) exclude each other, both are there"),
        ({"spike": None}, "there is neither; say one"),
    ],
)
def test_an_impossible_spike_is_refused_by_key_and_value(overrides: dict[str, Any], expected: str) -> None:
    assert expected in refusal(**overrides)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def run_at(capacity: float, shape: Spike | Flat, duration_s: float) -> tuple[Tally, Pacer]:
    """A sender that needs 1 / capacity seconds for each record, whose records are acknowledged at once."""
    clock = Clock()
    tally, pacer, acked = Tally(shape, duration_s, Share()), Pacer(due_times(shape, duration_s), clock, clock.sleep), 0
    while not pacer.finished:
        taken = pacer.take()
        clock.now += len(taken) / capacity
        acked += len(taken)
        tally.mark(pacer.elapsed_s, acked)
    return tally, pacer


def test_a_sender_that_keeps_up_reports_nothing() -> None:
    tally, pacer = run_at(10_000, SPIKE, 20)
    phases = tally.phases(pacer.elapsed_s)
    assert sum(count.due for count in phases.values()) == 1_010
    assert shortfall(phases, pacer.worst_behind_s) is None


def test_an_unreachable_rate_is_reported_with_target_and_achieved() -> None:
    tally, pacer = run_at(6_000, Spike(1_000, 10_000, baseline_s=5, ramp_s=4, hold_s=6, decay_s=2, recovery_s=3), 20)
    phases = tally.phases(20)
    assert phases["hold"].due == pytest.approx(60_000, abs=1)
    assert phases["hold"].acked == pytest.approx(6 * 6_000, rel=0.05)
    text = shortfall(phases, pacer.worst_behind_s)
    assert text
    assert "phase hold asked for 10,000 records/s over 6.0 s and got " in text
    assert f"at worst {pacer.worst_behind_s:.1f} s late" in text


def test_records_that_only_fill_the_buffer_do_not_count_as_achieved() -> None:
    """Sent in time, acknowledged far too late: send times alone would hide it."""
    assert shortfall({"steady": PhaseCount(seconds=10, due=1_000, acked=400)}, 0.0)
    assert shortfall({"steady": PhaseCount(seconds=10, due=1_000, acked=950)}, 0.0) is None


def test_the_counts_of_several_producers_add_up() -> None:
    part = {"hold": PhaseCount(seconds=6, due=300, acked=299)}
    assert merged([part, part, {}])["hold"] == PhaseCount(seconds=6, due=600, acked=598)
    assert added([[Counts("events", 5, 4, 1, 0)], [Counts("events", 7, 7, 0, 0), Counts("orders", 1, 1, 0, 0)]]) == [
        Counts("events", 12, 11, 1, 0),
        Counts("orders", 1, 1, 0, 0),
    ]
    one = Status("r", "spike", phase="sending", stage="hold", target_rate=1_500, behind_s=0.1)
    other = Status("r", "spike", phase="settling", target_rate=1_400, behind_s=2.0)
    both = together("r", [one, other])
    assert (both.phase, both.stage, both.target_rate, both.behind_s) == ("sending", "hold", 2_900, 2.0)


def test_the_phase_that_is_due_is_the_one_whose_metric_is_1() -> None:
    class Seen:
        counts = ()
        status = Status("r", "spike", phase="sending", stage="hold", stages=SPIKE.phases)

    family = next(metric for metric in RunCollector(Seen()).collect() if metric.name == "crm_generator_phase")
    assert {(s.labels["scenario"], s.labels["phase"]): s.value for s in family.samples} == {
        ("spike", name): float(name == "hold") for name in SPIKE.phases
    }
