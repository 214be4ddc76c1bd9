"""A history's days: records per day by weekday and season, and their due times within the day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

#: A year curve's rate within a day is known at points this far apart, seconds, and joined by straight lines.
_YEAR_STEP_S = 900
#: Middle of a month: there its weight holds, between two middles a straight line.
_MID_MONTH = 15


@dataclass(frozen=True)
class YearCurve:
    """Days of a history: `per_day` records on an average day, more in a busy month and on weekends.

    `months` are weights beside each other, from January; `hours` are the day's, of which `night` is what remains of the
    busiest hour's rate at weight 0. Days are those of `zone`.
    """

    per_day: float
    hours: tuple[float, ...]
    night: float
    weekend_factor: float
    months: tuple[float, ...]
    zone: ZoneInfo

    def expected(self, day: date) -> float:
        """Records of `day`, with a fraction."""
        mean = sum(self.months) / len(self.months)
        factor = self.weekend_factor if day.weekday() >= 5 else 1.0
        return self.per_day * self._season(day) / mean * factor * 7 / (5 + 2 * self.weekend_factor)

    def counts(self, first: date, last: date) -> list[int]:
        """Whole records of each day from `first` to `last`, both included. A day's fraction is left to the next."""
        total, counts = 0.0, []
        for number in range((last - first).days + 1):
            following = total + self.expected(first + timedelta(days=number))
            counts.append(int(following) - int(total))
            total = following
        return counts

    def times(self, day: date, count: int) -> list[int]:
        """When the day's `count` records are due, milliseconds since 1970, ascending: where the integral of the rate
        reaches each one's share."""
        start = datetime.combine(day, time(), self.zone)
        begin = start.timestamp()
        # A day of a clock change has 23 or 25 hours.
        seconds = datetime.combine(day + timedelta(days=1), time(), self.zone).timestamp() - begin
        steps: npt.NDArray[np.float64] = np.linspace(0, seconds, round(seconds / _YEAR_STEP_S) + 1)
        rates = np.array([self._rate(datetime.fromtimestamp(begin + step, self.zone)) for step in steps])
        integral = np.concatenate([[0.0], np.cumsum((rates[1:] + rates[:-1]) / 2 * np.diff(steps))])
        shares = (np.arange(count) + 0.5) / max(count, 1) * integral[-1]
        due = (begin + np.interp(shares, integral, steps)) * 1000
        return due.astype(np.int64).tolist()

    def _rate(self, local: datetime) -> float:
        weight = float(np.interp(local.hour + local.minute / 60, range(25), (*self.hours, self.hours[0])))
        return self.night + (1 - self.night) * weight

    def _season(self, day: date) -> float:
        after = date(day.year + day.month // 12, day.month % 12 + 1, _MID_MONTH)
        middle = date(day.year, day.month, _MID_MONTH)
        if day < middle:
            middle, after = date(day.year - (day.month == 1), (day.month - 2) % 12 + 1, _MID_MONTH), middle
        part = (day - middle).days / (after - middle).days
        return self.months[middle.month - 1] * (1 - part) + self.months[after.month - 1] * part
