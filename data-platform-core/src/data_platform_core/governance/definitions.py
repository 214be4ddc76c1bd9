"""A service level: one row of `ops.sla_definitions`, and what is wrong with a row that can't be checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from data_platform_core.governance.pipelines import Measure, Pipeline


class Kind(StrEnum):
    """`hourly`, `daily`: each interval must be complete by its deadline. `realtime`: data must never be older."""

    REALTIME = "realtime"
    HOURLY = "hourly"
    DAILY = "daily"


class Channel(StrEnum):
    """Where a violation is notified; the routes of Alertmanager know them by these names."""

    SLACK = "slack"
    EMAIL = "email"
    WEBHOOK = "webhook"
    ALL = "all"


#: Longest deadline of each kind, minutes. A deadline after the end of the next interval would leave two intervals of
#: one row open at a time without either being late.
LONGEST_MINUTES: Final = {Kind.REALTIME: 7 * 24 * 60, Kind.HOURLY: 60, Kind.DAILY: 24 * 60}
_UNITS: Final = {
    Kind.REALTIME: "of age",
    Kind.HOURLY: "after the hour",
    Kind.DAILY: "after midnight",
}


@dataclass(frozen=True)
class Definition:
    """One service level. Minutes are explained in `due_times.py`; `origin`: contract, seed or person."""

    definition_id: int
    pipeline: str
    kind: Kind
    deadline_minutes: int
    time_zone: str
    owner: str
    channel: Channel
    enabled: bool
    escalate_after_minutes: int
    watched_since: datetime
    origin: str

    @property
    def name(self) -> str:
        """How people and alerts name it: `load-warehouse/hourly`."""
        return f"{self.pipeline}/{self.kind.value}"

    @property
    def deadline(self) -> timedelta:
        return timedelta(minutes=self.deadline_minutes)

    @property
    def escalate_after(self) -> timedelta:
        return timedelta(minutes=self.escalate_after_minutes)

    @property
    def zone(self) -> ZoneInfo:
        """Raises ZoneInfoNotFoundError or ValueError; `problem` explains it."""
        return ZoneInfo(self.time_zone)

    @property
    def promise(self) -> str:
        """The deadline in words."""
        if self.kind is Kind.DAILY:
            day, minutes = divmod(self.deadline_minutes, 24 * 60)
            hours, minutes = divmod(minutes, 60)
            return f"by {hours + 24 * day:02d}:{minutes:02d} {self.time_zone}"
        if self.kind is Kind.HOURLY:
            return f"{self.deadline_minutes} min after each hour"
        return f"never older than {self.deadline_minutes} min"


def problem(definition: Definition, pipelines: Mapping[str, Pipeline]) -> str | None:
    """Why the row can't be checked, as one line; None if it can."""
    found = pipelines.get(definition.pipeline)
    if found is None:
        reason = f"pipeline {definition.pipeline!r} is unknown; known: {', '.join(sorted(pipelines))}"
    elif definition.kind is not Kind.REALTIME and found.measure is not Measure.COMPLETIONS:
        reason = f"kind {definition.kind.value!r} needs a pipeline that records its runs; use kind 'realtime'"
    elif not 1 <= definition.deadline_minutes <= LONGEST_MINUTES[definition.kind]:
        reason = (
            f"deadline {definition.deadline_minutes} min {_UNITS[definition.kind]} is impossible; give 1 to "
            f"{LONGEST_MINUTES[definition.kind]}"
        )
    elif not _is_zone(definition.time_zone):
        reason = f"time zone {definition.time_zone!r} is unknown; give an IANA name, as Europe/Berlin"
    elif not definition.owner.strip():
        reason = "owner is empty; name who answers for it"
    else:
        return None
    return f"SLA {definition.name}: {reason}"


@lru_cache
def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
