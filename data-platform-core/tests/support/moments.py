"""Moments and intervals as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

from data_platform_core.intervals import Interval


def utc(text: str) -> datetime:
    """`utc("2026-03-29 07:00")`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def between(start: str, end: str) -> Interval:
    return Interval(utc(start), utc(end))
