"""What a check finds: deadlines missed, violations that ended, violations that escalate. Pure: `now` is given.

A violation opens at the first check after its deadline, and once: an interval that has one is not violated again. It
closes when the pipeline completed, or when its definition was disabled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from data_platform_core.governance.definitions import Definition, Kind
from data_platform_core.governance.due_times import deadlines
from data_platform_core.intervals import Interval

#: A checker that was away finds deadlines of this time; older ones it leaves alone.
LOOKBACK: Final = timedelta(days=7)

Because = Literal["completed", "disabled"]


@dataclass(frozen=True)
class Completion:
    """An interval that a pipeline completed, and when it first did."""

    interval: Interval
    completed_at: datetime


@dataclass(frozen=True)
class Observed:
    """What is known of a pipeline: its completions, or of a realtime row how recent its data is (None: nothing yet)."""

    completions: Sequence[Completion] = ()
    catches_up: bool = False
    newest: datetime | None = None

    def completed_at(self, interval: Interval) -> datetime | None:
        """When `interval` was complete; None while it is not."""
        return min((each.completed_at for each in self.completions if self._completes(each, interval)), default=None)

    def _completes(self, completion: Completion, interval: Interval) -> bool:
        if self.catches_up:
            return completion.interval.end >= interval.end
        return completion.interval.covers(interval)


@dataclass(frozen=True)
class Violation:
    """A stored violation. `interval` None: of a realtime row."""

    violation_id: int
    interval: Interval | None
    due_at: datetime
    is_open: bool
    is_escalated: bool


@dataclass(frozen=True)
class Missed:
    """A deadline that was missed; `completed_at`: the pipeline completed since, so the violation is over already."""

    interval: Interval | None
    due_at: datetime
    completed_at: datetime | None = None


@dataclass(frozen=True)
class Ended:
    """A violation that is to be closed; `completed_at` is there if the pipeline completed."""

    violation_id: int
    because: Because
    completed_at: datetime | None = None


@dataclass(frozen=True)
class Verdict:
    """What a check changes. Ids are those of violations."""

    missed: tuple[Missed, ...] = ()
    ended: tuple[Ended, ...] = ()
    escalated: tuple[int, ...] = ()


def horizon(definition: Definition, now: datetime) -> datetime:
    """Intervals that end before this moment are not checked any more."""
    return _checked_from(definition, now) - definition.deadline - timedelta(days=1)


def first_moment(definition: Definition, violations: Iterable[Violation], now: datetime) -> datetime:
    """From when on completions matter: for what is checked, and for open violations, however old."""
    waiting = (each.interval.end for each in violations if each.is_open and each.interval)
    return min((horizon(definition, now), *waiting))


def evaluate(definition: Definition, observed: Observed, violations: Iterable[Violation], now: datetime) -> Verdict:
    """The verdict on one definition without problems (`definitions.problem`)."""
    violations = tuple(violations)
    opened = [each for each in violations if each.is_open]
    if not definition.enabled:
        return Verdict(ended=tuple(Ended(each.violation_id, "disabled") for each in opened))
    if definition.kind is Kind.REALTIME:
        missed, ended = _age(definition, observed, opened, now)
    else:
        missed, ended = _intervals(definition, observed, violations, now)
    over = {each.violation_id for each in ended}
    escalated = tuple(
        each.violation_id
        for each in opened
        if each.violation_id not in over and not each.is_escalated and now >= each.due_at + definition.escalate_after
    )
    return Verdict(tuple(missed), tuple(ended), escalated)


def _intervals(
    definition: Definition, observed: Observed, violations: Sequence[Violation], now: datetime
) -> tuple[list[Missed], list[Ended]]:
    seen = {each.interval for each in violations}
    missed = []
    for interval, due in deadlines(definition, _checked_from(definition, now), now):
        completed_at = observed.completed_at(interval)
        if interval not in seen and (completed_at is None or completed_at > due):
            missed.append(Missed(interval, due, completed_at))
    ended = []
    for each in violations:
        if each.is_open and each.interval and (completed_at := observed.completed_at(each.interval)):
            ended.append(Ended(each.violation_id, "completed", completed_at))
    return missed, ended


def _age(
    definition: Definition, observed: Observed, opened: Sequence[Violation], now: datetime
) -> tuple[list[Missed], list[Ended]]:
    # A pipeline without data yet has its minutes from when the row is watched.
    due = (observed.newest or definition.watched_since) + definition.deadline
    if due >= now:
        return [], [Ended(each.violation_id, "completed", now) for each in opened]
    return ([] if opened else [Missed(None, due)]), []


def _checked_from(definition: Definition, now: datetime) -> datetime:
    return max(definition.watched_since, now - LOOKBACK)
