"""The rate over time, records/s.

`DayCurve` is the ordinary day of a Korean shop: quiet before dawn, a first peak at lunch, the highest in the evening,
weekends busier by a factor and an hour later. The hours' weights are between 0 and 1 and joined by straight lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

#: The rate is held for this long, seconds; hours of the day change slower than that.
SLICE_S = 1.0


class Shape(Protocol):
    """A rate for each moment after the start."""

    def rate(self, elapsed_s: float) -> float:
        """Records/s at `elapsed_s` seconds after the start; never negative."""
        ...


@dataclass(frozen=True)
class Flat:
    """The same rate throughout."""

    per_second: float

    def rate(self, elapsed_s: float) -> float:
        return self.per_second


@dataclass(frozen=True)
class DayCurve:
    """Between `low` (records/s, at weight 0) and `high` (at weight 1) by the hour of the local day."""

    low: float
    high: float
    hours: tuple[float, ...]
    weekend_factor: float
    start: datetime
    zone: ZoneInfo

    def rate(self, elapsed_s: float) -> float:
        local = (self.start + timedelta(seconds=elapsed_s)).astimezone(self.zone)
        weight = self._weight(local.hour + local.minute / 60 + local.second / 3600)
        if local.weekday() >= 5:
            weight = min(1.0, weight * self.weekend_factor)
        return self.low + (self.high - self.low) * weight

    def _weight(self, hour: float) -> float:
        before, part = int(hour) % 24, hour % 1
        return self.hours[before] * (1 - part) + self.hours[(before + 1) % 24] * part


def due_times(shape: Shape, duration_s: float | None) -> Iterator[float]:
    """Seconds after the start at which each record is due, ascending; endless when `duration_s` is None.

    The n-th is due where the integral of the rate reaches n, so that a minute at 50/s is 3,000 records whatever
    happens on the way.
    """
    begin, total, number = 0.0, 0.0, 0
    while duration_s is None or begin < duration_s:
        width = SLICE_S if duration_s is None else min(SLICE_S, duration_s - begin)
        rate = shape.rate(begin)
        end_total = total + rate * width
        while number < end_total - 1e-9:
            yield begin + (number - total) / rate
            number += 1
        begin, total = begin + width, end_total
