"""Service levels of tests: definitions with plain values."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from moments import utc

from data_platform_core.governance.definitions import Channel, Definition, Kind

BERLIN = "Europe/Berlin"


def berlin(moment: datetime) -> str:
    """What a clock in Berlin shows, with its offset."""
    return moment.astimezone(ZoneInfo(BERLIN)).strftime("%m-%d %H:%M%z")


def definition(pipeline: str = "load-warehouse", **changes: Any) -> Definition:
    values = {
        "definition_id": 1,
        "pipeline": pipeline,
        "kind": Kind.HOURLY,
        "deadline_minutes": 5,
        "time_zone": "UTC",
        "owner": "crm-platform",
        "channel": Channel.ALL,
        "enabled": True,
        "escalate_after_minutes": 60,
        "watched_since": utc("2026-01-01 00:00"),
        "origin": "person",
    }
    return Definition(**values | changes)


def daily(deadline_minutes: int, time_zone: str = BERLIN, **changes: Any) -> Definition:
    return definition("build-marts", kind=Kind.DAILY, deadline_minutes=deadline_minutes, time_zone=time_zone, **changes)


def realtime(deadline_minutes: int, pipeline: str = "raw_crm.orders", **changes: Any) -> Definition:
    return definition(pipeline, kind=Kind.REALTIME, deadline_minutes=deadline_minutes, **changes)
