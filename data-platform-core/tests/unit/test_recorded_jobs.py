"""Which interval a load and a build record: the scheduler's, else the last hour, and nothing for a part of the job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from moments import between

from data_platform_core.batch import load_warehouse
from data_platform_core.cli import app
from data_platform_core.errors import ConfigurationError
from data_platform_core.intervals import Interval, last_hour
from data_platform_core.warehouse import completions, dbt_runner

pytestmark = pytest.mark.unit

GIVEN = between("2026-03-01 09:00", "2026-03-01 10:00")


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What happened, in order: an outcome that begins, the job, and the outcome."""
    found: list[Any] = []

    @contextmanager
    def recorded(_postgres: object, pipeline: str, interval: Interval) -> Iterator[None]:
        found.append((pipeline, interval))
        yield
        found.append("recorded")

    monkeypatch.setattr(completions, "recorded", recorded)
    monkeypatch.setattr(load_warehouse, "run", lambda *_a, **_k: found.append("job"))
    monkeypatch.setattr(dbt_runner, "dbt_build", lambda *_a: found.append("job"))
    return found


def crm(*words: str) -> None:
    app(["--env", "test", *words], standalone_mode=False)


@pytest.mark.parametrize(
    ("words", "pipeline"),
    [
        (("load",), "load-warehouse"),
        (("load", "--rebuild"), "load-warehouse"),
        (("dbt", "build"), "build-marts"),
        (("dbt", "build", "--full-refresh"), "build-marts"),
    ],
)
def test_a_whole_run_records_the_last_hour(events: list[Any], words: tuple[str, ...], pipeline: str) -> None:
    before = last_hour(datetime.now(UTC))
    crm(*words)
    assert events in ([(pipeline, hour), "job", "recorded"] for hour in (before, last_hour(datetime.now(UTC))))


@pytest.mark.parametrize("words", [("load", "--entity", "orders"), ("dbt", "build", "--select", "fct_orders")])
def test_a_part_of_a_job_records_nothing_unless_a_scheduler_names_the_interval(
    events: list[Any], words: tuple[str, ...]
) -> None:
    crm(*words)
    assert events == ["job"]
    crm(*words, "--interval", str(GIVEN))
    assert [event[1] for event in events if isinstance(event, tuple)] == [GIVEN]


def test_an_interval_that_is_none_stops_the_job(events: list[Any]) -> None:
    with pytest.raises(ConfigurationError, match="interval 'yesterday' can't be used"):
        crm("load", "--interval", "yesterday")
    assert events == []
