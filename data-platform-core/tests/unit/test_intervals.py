"""Data intervals as a scheduler writes them."""

from __future__ import annotations

import pytest
from moments import between, utc

from data_platform_core.errors import ConfigurationError
from data_platform_core.intervals import last_hour, parse_interval

pytestmark = pytest.mark.unit

NINE_TO_TEN = between("2026-03-01 09:00", "2026-03-01 10:00")


@pytest.mark.parametrize(
    "text", ["2026-03-01T09:00Z/2026-03-01T10:00Z", "2026-03-01T10:00+01:00/2026-03-01T11:00+01:00"]
)
def test_an_interval_is_read_in_any_zone(text: str) -> None:
    assert parse_interval(text) == NINE_TO_TEN


def test_an_interval_is_written_as_it_is_read() -> None:
    assert parse_interval(str(NINE_TO_TEN)) == NINE_TO_TEN


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("today", "it has no /"),
        ("2026-03-01T09:00/2026-03-01T10:00", "it has no time zone"),
        ("2026-03-01T10:00Z/2026-03-01T09:00Z", "must end after its start"),
        ("2026-03-01T10:00Z/2026-03-01T10:00Z", "must end after its start"),
        ("2026-03-01T10:00Z/PT1H", "PT1H"),
        ("0001-01-01T00:00+14:00/2026-03-01T10:00Z", "out of range"),
    ],
)
def test_an_interval_that_is_none_is_one_line_with_its_value(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_interval(text)
    assert reason in str(refused.value)
    assert repr(text) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("now", ["2026-03-01 10:00", "2026-03-01 10:59"])
def test_the_last_hour_is_the_whole_one_before(now: str) -> None:
    assert last_hour(utc(now)) == NINE_TO_TEN
