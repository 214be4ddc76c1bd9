"""The rate over time, records/s, and the due time of each record.

`DayCurve` is the ordinary day of a Korean shop: quiet before dawn, a first peak at lunch, the highest in the evening,
weekends busier by a factor and an hour later. The hours' weights are between 0 and 1 and joined by straight lines.
`Spike` is a campaign: baseline, ramp, hold, decay, and the baseline again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, pairwise
from math import ceil, inf
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

#: The rate is held for this long, seconds; hours of the day change slower than that.
SLICE_S = 1.0
#: The same on the slopes of a spike, which are seconds long.
SLOPE_SLICE_S = 0.1
#: Sums of rates are this far from whole numbers by rounding alone.
_HAIR = 1e-9
#: The phase of a scenario that has no others.
STEADY = "steady"
BASELINE, RAMP, HOLD, DECAY, RECOVERY = "baseline", "ramp", "hold", "decay", "recovery"


class Slice(NamedTuple):
    """A span of constant rate, seconds after the start and records/s."""

    begin: float
    end: float
    rate: float


class Share(NamedTuple):
    """Which of a shape's records a sender takes: every `of`-th, beginning with `number`."""

    number: int = 0
    of: int = 1


ALONE = Share()


class Shape(Protocol):
    """A rate for each moment after the start. `phases` in their order; `ends`: seconds at which each of them ends."""

    @property
    def phases(self) -> tuple[str, ...]: ...

    @property
    def ends(self) -> tuple[float, ...]: ...

    def rate(self, elapsed_s: float) -> float:
        """Records/s at `elapsed_s` seconds after the start; never negative."""
        ...

    def slices(self) -> Iterator[Slice]:
        """The whole of it as spans of constant rate without gaps; endless when the shape is."""
        ...


@dataclass(frozen=True)
class Flat:
    """The same rate throughout."""

    per_second: float
    phases = (STEADY,)
    ends = (inf,)

    def rate(self, elapsed_s: float) -> float:
        return self.per_second

    def slices(self) -> Iterator[Slice]:
        return _every_second(self.rate)


@dataclass(frozen=True)
class DayCurve:
    """Between `low` (records/s, at weight 0) and `high` (at weight 1) by the hour of the local day."""

    low: float
    high: float
    hours: tuple[float, ...]
    weekend_factor: float
    start: datetime
    zone: ZoneInfo
    phases = (STEADY,)
    ends = (inf,)

    def rate(self, elapsed_s: float) -> float:
        local = (self.start + timedelta(seconds=elapsed_s)).astimezone(self.zone)
        weight = self._weight(local.hour + local.minute / 60 + local.second / 3600)
        if local.weekday() >= 5:
            weight = min(1.0, weight * self.weekend_factor)
        return self.low + (self.high - self.low) * weight

    def _weight(self, hour: float) -> float:
        before, part = int(hour) % 24, hour % 1
        return self.hours[before] * (1 - part) + self.hours[(before + 1) % 24] * part

    def slices(self) -> Iterator[Slice]:
        return _every_second(self.rate)


@dataclass(frozen=True)
class Spike:
    """`low` records/s, straight up to `high`, held, straight down, and `low` again; seconds of each phase.

    A phase of 0 seconds is left out: without a ramp the rate jumps.
    """

    low: float
    high: float
    baseline_s: float
    ramp_s: float
    hold_s: float
    decay_s: float
    recovery_s: float
    phases = (BASELINE, RAMP, HOLD, DECAY, RECOVERY)

    @property
    def ends(self) -> tuple[float, ...]:
        return tuple(accumulate((self.baseline_s, self.ramp_s, self.hold_s, self.decay_s, self.recovery_s)))

    def rate(self, elapsed_s: float) -> float:
        phase, rise = phase_at(self, elapsed_s), self.high - self.low
        if phase == HOLD:
            return self.high
        if phase == RAMP:
            return self.low + rise * (elapsed_s - self.baseline_s) / self.ramp_s
        if phase == DECAY:
            return self.low + rise * (self.ends[3] - elapsed_s) / self.decay_s
        return self.low

    def slices(self) -> Iterator[Slice]:
        for name, (begin, end) in zip(self.phases, pairwise((0.0, *self.ends)), strict=True):
            if begin == end:
                continue
            count = max(1, round((end - begin) / SLOPE_SLICE_S)) if name in (RAMP, DECAY) else 1
            bounds = [begin + (end - begin) * number / count for number in range(count)] + [end]
            for left, right in pairwise(bounds):
                # On a straight line the rate in the middle is the mean: the slope's records are exact.
                yield Slice(left, right, self.rate((left + right) / 2))


def phase_at(shape: Shape, elapsed_s: float) -> str:
    """The phase `elapsed_s` seconds after the start; the last one when all are over."""
    return next((name for name, end in zip(shape.phases, shape.ends, strict=True) if elapsed_s < end), shape.phases[-1])


def _every_second(rate: Callable[[float], float]) -> Iterator[Slice]:
    begin = 0.0
    while True:
        yield Slice(begin, begin + SLICE_S, rate(begin))
        begin += SLICE_S


def _until(shape: Shape, duration_s: float | None) -> Iterator[Slice]:
    for begin, end, rate in shape.slices():
        if duration_s is not None and end >= duration_s:
            if begin < duration_s:
                yield Slice(begin, duration_s, rate)
            return
        yield Slice(begin, end, rate)


def due_times(shape: Shape, duration_s: float | None, share: Share = ALONE) -> Iterator[float]:
    """Seconds after the start at which each record is due, ascending; endless when `duration_s` is None.

    The n-th is due where the integral of the rate reaches n, so that a minute at 50/s is always 3,000 records.
    Senders that share a shape alternate: together they send the shape's records.
    """
    total, number = 0.0, share.number
    for begin, end, rate in _until(shape, duration_s):
        end_total = total + rate * (end - begin)
        while number < end_total - _HAIR:
            yield begin + (number - total) / rate
            number += share.of
        total = end_total


def due_by(shape: Shape, elapsed_s: float, share: Share = ALONE) -> int:
    """How many of `due_times` come before `elapsed_s`, without making each."""
    total = sum(rate * (end - begin) for begin, end, rate in _until(shape, elapsed_s))
    return max(0, ceil((total - _HAIR - share.number) / share.of))
