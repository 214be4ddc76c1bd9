"""When records are due: the curve's integral, and a late sender's delay is reported."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice, pairwise

import pytest

from data_generator.load.pacing import MAX_BATCH, MAX_SLEEP_S, Pacer
from data_generator.load.shapes import DayCurve, Flat, due_times
from data_generator.scenario import Scenario

pytestmark = pytest.mark.unit


class VirtualClock:
    """A clock that advances only by `sleep` or on request."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_flat_rate_is_due_evenly_and_exactly_as_often_as_configured() -> None:
    times = list(due_times(Flat(50), 60))
    assert len(times) == 3_000
    assert times[0] == 0
    assert all(after - before == pytest.approx(0.02) for before, after in pairwise(times))


@pytest.mark.parametrize(("rate", "duration", "count"), [(3, 0.5, 2), (0.4, 10, 4), (3_000, 2.5, 7_500), (7, 1.25, 9)])
def test_odd_rates_and_durations_lose_no_record(rate: float, duration: float, count: int) -> None:
    times = list(due_times(Flat(rate), duration))
    assert len(times) == count
    assert all(0 <= time < duration for time in times)


def test_without_duration_it_never_ends() -> None:
    assert len(list(islice(due_times(Flat(10), None), 5_000))) == 5_000


@pytest.fixture
def day(scenario: Callable[..., Scenario]) -> Callable[[str], DayCurve]:
    """The curve of normal.yaml for a run that starts at a local time of Seoul (UTC+9)."""

    def at(utc: str) -> DayCurve:
        shape = scenario().shape(datetime.fromisoformat(utc).replace(tzinfo=UTC))
        assert isinstance(shape, DayCurve)
        return shape

    return at


def test_the_evening_is_busier_than_the_night(day: Callable[[str], DayCurve]) -> None:
    evening, night = day("2026-11-18T12:00"), day("2026-11-17T19:00")  # Wednesday 21:00 and 04:00 in Seoul
    assert evening.rate(0) == pytest.approx(100)
    assert night.rate(0) == pytest.approx(11.8)


def test_the_weekend_is_busier_than_the_week(day: Callable[[str], DayCurve]) -> None:
    wednesday, saturday = day("2026-11-18T00:00").rate(0), day("2026-11-21T00:00").rate(0)  # 09:00 in Seoul
    assert saturday - 10 == pytest.approx(1.2 * (wednesday - 10))


def test_the_rate_stays_between_low_and_high_all_week(day: Callable[[str], DayCurve]) -> None:
    curve = day("2026-11-16T00:00")
    rates = [curve.rate(600 * n) for n in range(7 * 144)]
    assert 10 <= min(rates) < 15
    assert 99 < max(rates) <= 100


def test_due_times_follow_the_curve(day: Callable[[str], DayCurve]) -> None:
    curve = day("2026-11-18T03:00")  # noon
    expected = sum(curve.rate(second) for second in range(600))
    times = list(due_times(curve, 600))
    assert len(times) == pytest.approx(expected, abs=1)
    assert all(before < after for before, after in pairwise(times))


def test_a_sender_on_time_gets_each_record_within_two_ticks() -> None:
    clock = VirtualClock()
    pacer = Pacer(due_times(Flat(100), 10), clock, clock.sleep)
    taken = 0
    while not pacer.finished:
        for due in pacer.take():
            assert 0 <= pacer.elapsed_s - due <= MAX_SLEEP_S
            taken += 1
    assert taken == 1_000
    assert pacer.worst_behind_s < MAX_SLEEP_S


def test_a_stall_omits_nothing_and_shifts_no_due_time() -> None:
    """Coordinated omission would send fewer records, or date the late ones to when they were sent."""
    clock = VirtualClock()
    pacer = Pacer(due_times(Flat(1_000), 10), clock, clock.sleep)
    taken: list[float] = []
    stalled = False
    while not pacer.finished:
        taken += pacer.take()
        if not stalled and len(taken) > 3_000:
            clock.now += 2.0  # the brokers delay the sender
            stalled = True
    assert taken == list(due_times(Flat(1_000), 10))
    assert pacer.worst_behind_s == pytest.approx(2.0, abs=0.1)
    assert pacer.elapsed_s == pytest.approx(10, abs=0.1)


def test_a_late_sender_catches_up_in_batches() -> None:
    clock = VirtualClock()
    pacer = Pacer(due_times(Flat(1_000), 10), clock, clock.sleep)
    clock.now += 3
    assert len(pacer.take()) == MAX_BATCH
    assert pacer.behind_s == pytest.approx(2.5, abs=0.01)


def test_waiting_for_the_next_record_is_interrupted_often_enough_for_signals() -> None:
    clock = VirtualClock()
    pacer = Pacer(iter([0.0, 30.0]), clock, clock.sleep)
    assert pacer.take() == [0.0]
    before = clock.now
    assert pacer.take() == []
    assert clock.now - before == pytest.approx(MAX_SLEEP_S)
