"""Data intervals: which part of time a run of a pipeline is for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from data_platform_core.errors import ConfigurationError

HOUR = timedelta(hours=1)


@dataclass(frozen=True, order=True)
class Interval:
    """From `start`, inclusive, to `end`, exclusive; both in UTC. Raises ValueError unless it has a length."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.utcoffset() is None or self.end.utcoffset() is None:
            raise ValueError("an interval's ends need a time zone")
        if self.start >= self.end:
            raise ValueError("an interval must end after its start")

    def __str__(self) -> str:
        """As a scheduler passes it on: `2026-03-01T09:00:00+00:00/2026-03-01T10:00:00+00:00`."""
        return f"{self.start.isoformat()}/{self.end.isoformat()}"

    def covers(self, other: Interval) -> bool:
        """Whether all of `other` is in this one."""
        return self.start <= other.start and other.end <= self.end


def parse_interval(text: str) -> Interval:
    """An interval from ISO 8601's `START/END`. Raises ConfigurationError naming the value."""
    try:
        start, end = (datetime.fromisoformat(part).astimezone(UTC) for part in _with_zones(text))
        return Interval(start, end)
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(
            f"interval {text!r} can't be used ({error}); give START/END in ISO 8601 with a time zone, as "
            "2026-03-01T09:00Z/2026-03-01T10:00Z"
        ) from None


def _with_zones(text: str) -> tuple[str, str]:
    start, separator, end = text.partition("/")
    if not separator:
        raise ValueError("it has no /")
    if any(datetime.fromisoformat(part).utcoffset() is None for part in (start, end)):
        raise ValueError("it has no time zone")
    return start, end


def last_hour(now: datetime) -> Interval:
    """The last whole hour of UTC before `now`."""
    end = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return Interval(end - HOUR, end)
