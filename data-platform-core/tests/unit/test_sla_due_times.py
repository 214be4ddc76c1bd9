"""Deadlines on the calendar: hours, days, and nights in which the clock is changed."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moments import between, utc
from service_levels import BERLIN, berlin, daily, definition, realtime

from data_platform_core.governance.definitions import Definition
from data_platform_core.governance.due_times import business_day, deadlines

pytestmark = pytest.mark.unit

#: 2026: at 02:00 on 29 March the clock shows 03:00, at 03:00 on 25 October it shows 02:00 again.
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)


def due(wanted: Definition, day: date) -> str:
    """What a clock in Berlin shows at the deadline on the morning of `day`."""
    start = business_day(day - timedelta(days=1), ZoneInfo(BERLIN)).start
    moments = dict(deadlines(wanted, start, start + timedelta(days=3)))
    return berlin(moments[business_day(day - timedelta(days=1), ZoneInfo(BERLIN))])


def test_an_hour_is_due_minutes_after_its_end() -> None:
    found = list(deadlines(definition(deadline_minutes=5), utc("2026-03-01 09:05"), utc("2026-03-01 11:05")))
    assert found == [
        (between("2026-03-01 08:00", "2026-03-01 09:00"), utc("2026-03-01 09:05")),
        (between("2026-03-01 09:00", "2026-03-01 10:00"), utc("2026-03-01 10:05")),
    ]


def test_an_hour_that_has_the_whole_next_hour_is_due_at_its_end() -> None:
    found = list(deadlines(definition(deadline_minutes=60), utc("2026-03-01 10:00"), utc("2026-03-01 10:01")))
    assert found == [(between("2026-03-01 08:00", "2026-03-01 09:00"), utc("2026-03-01 10:00"))]


def test_a_day_is_due_at_a_time_of_its_zones_clock() -> None:
    found = list(deadlines(daily(540), utc("2026-07-01 00:00"), utc("2026-07-03 00:00")))
    assert found == [
        (between("2026-06-29 22:00", "2026-06-30 22:00"), utc("2026-07-01 07:00")),
        (between("2026-06-30 22:00", "2026-07-01 22:00"), utc("2026-07-02 07:00")),
    ]


@pytest.mark.parametrize("day", [SPRING, AUTUMN, date(2026, 7, 1)])
def test_nine_o_clock_is_nine_o_clock_on_every_morning(day: date) -> None:
    assert due(daily(540), day)[6:11] == "09:00"


@pytest.mark.parametrize("day", [SPRING, AUTUMN, date(2026, 7, 1)])
@pytest.mark.parametrize("minutes", [1, 540, 1440])
def test_a_deadline_is_found_from_its_own_moment_on(day: date, minutes: int) -> None:
    start = business_day(day, ZoneInfo(BERLIN)).start
    for _, moment in deadlines(daily(minutes), start, start + timedelta(days=2)):
        assert len(list(deadlines(daily(minutes), moment, moment + timedelta(seconds=1)))) == 1


def test_a_night_with_an_hour_less_leaves_an_hour_less_until_nine() -> None:
    midnight, nine = business_day(SPRING, ZoneInfo(BERLIN)).start, utc("2026-03-29 07:00")
    assert nine - midnight == timedelta(hours=8)
    assert due(daily(540), SPRING) == "03-29 09:00+0200"


def test_a_deadline_inside_the_skipped_hour_is_reached_by_the_old_offset() -> None:
    assert due(daily(150), SPRING) == "03-29 03:30+0200"
    assert due(daily(119), SPRING) == "03-29 01:59+0100"
    assert due(daily(180), SPRING) == "03-29 03:00+0200"


def test_a_deadline_inside_the_repeated_hour_is_its_first_occurrence() -> None:
    assert due(daily(150), AUTUMN) == "10-25 02:30+0200"
    assert due(daily(180), AUTUMN) == "10-25 03:00+0100"


def test_days_are_as_long_as_the_clock_makes_them() -> None:
    zone = ZoneInfo(BERLIN)
    lengths = [business_day(day, zone) for day in (SPRING, date(2026, 7, 1), AUTUMN)]
    assert [each.end - each.start for each in lengths] == [timedelta(hours=hours) for hours in (23, 24, 25)]


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25)])
def test_a_changed_clock_neither_drops_nor_repeats_an_hour(day: date, hours: int) -> None:
    whole = business_day(day, ZoneInfo(BERLIN))
    found = [interval for interval, _ in deadlines(definition(time_zone=BERLIN), whole.start, whole.end)]
    assert len(found) == len(set(found)) == hours
    assert all(before.end == after.start for before, after in pairwise(found))


@settings(deadline=None)
@given(
    st.sampled_from([BERLIN, "UTC", "Asia/Seoul", "Asia/Kolkata", "America/Sao_Paulo", "Africa/Cairo", "Pacific/Apia"]),
    st.dates(date(2000, 1, 1), date(2060, 1, 1)),
    st.integers(1, 1440),
)
def test_days_of_every_zone_follow_each_other_and_each_has_one_deadline(zone: str, day: date, minutes: int) -> None:
    start = business_day(day, ZoneInfo(zone)).start
    found = list(deadlines(daily(minutes, zone), start, start + timedelta(days=20)))
    intervals = [interval for interval, _ in found]
    assert all(before.end == after.start for before, after in pairwise(intervals))
    assert 19 <= len(found) <= 21
    assert all(moment >= interval.end for interval, moment in found)


def test_a_day_that_a_zone_skips_is_no_interval() -> None:
    """Samoa went from 29 to 31 December 2011."""
    found = deadlines(daily(60, "Pacific/Apia"), utc("2011-12-28 00:00"), utc("2012-01-02 00:00"))
    intervals = [interval for interval, _ in found]
    assert [interval.end - interval.start for interval in intervals] == [timedelta(days=1)] * len(intervals)
    assert all(before.end == after.start for before, after in pairwise(intervals))


def test_a_realtime_row_has_no_intervals() -> None:
    with pytest.raises(ValueError, match="has no intervals"):
        list(deadlines(realtime(5), utc("2026-03-01 09:00"), utc("2026-03-01 10:00")))
