"""Intervals and deadlines of hourly and daily service levels. Pure; every moment that comes out is in UTC.

- Hours are those of UTC: they last 60 minutes, also when a clock is changed.
- A day is from midnight to midnight on the clock of the row's time zone: 23, 24 or 25 hours.
- An hourly deadline is elapsed time after the hour. A daily deadline is a time on that clock: 540 minutes are 09:00 on
  every day, also on one whose night has an hour more or less.
- A time that the clock skips, or shows twice, is what RFC 5545 (3.3.5) says: the offset before the gap, so 02:30 in the
  skipped hour is 03:30 of the new one; and the first of two occurrences.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from data_platform_core.governance.definitions import Definition, Kind
from data_platform_core.intervals import HOUR, Interval

_DAY = timedelta(days=1)


def deadlines(definition: Definition, after: datetime, before: datetime) -> Iterator[tuple[Interval, datetime]]:
    """Intervals with their deadlines, for deadlines from `after` (inclusive) to `before` (exclusive), in order.

    Raises ValueError for a realtime row, which has none.
    """
    if definition.kind is Kind.REALTIME:
        raise ValueError("a realtime service level has no intervals")
    candidates = _hours if definition.kind is Kind.HOURLY else _days
    for interval, due in candidates(definition, after, before):
        if after <= due < before:
            yield interval, due


def _hours(definition: Definition, after: datetime, before: datetime) -> Iterator[tuple[Interval, datetime]]:
    end = (after - definition.deadline).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while end + definition.deadline < before:
        yield Interval(end - HOUR, end), end + definition.deadline
        end += HOUR


def _days(definition: Definition, after: datetime, before: datetime) -> Iterator[tuple[Interval, datetime]]:
    zone = definition.zone
    day = (after - definition.deadline).astimezone(zone).date() - _DAY
    last = before.astimezone(zone).date()
    while day <= last:
        midnight = datetime.combine(day, time())
        # A zone that changes sides of the date line has skipped a day: that one is no interval.
        if on_clock(midnight, zone) < on_clock(midnight + _DAY, zone):
            yield business_day(day, zone), on_clock(midnight + _DAY + definition.deadline, zone)
        day += _DAY


def business_day(day: date, zone: ZoneInfo) -> Interval:
    """A day of `zone`, in UTC. Raises ValueError for a day that the zone skipped."""
    midnight = datetime.combine(day, time())
    return Interval(on_clock(midnight, zone), on_clock(midnight + _DAY, zone))


def on_clock(reading: datetime, zone: ZoneInfo) -> datetime:
    """The moment at which the clock of `zone` shows `reading` (without a zone), in UTC."""
    # fold=0 is RFC 5545's choice in both cases.
    return reading.replace(tzinfo=zone, fold=0).astimezone(UTC)
