"""The log of completions: one row per pipeline and interval, whatever happens to its runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from moments import between
from warehouse_trial import SettingsOf, in_trial_database, migrated_database

from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.topology import Topology
from data_platform_core.warehouse.completions import recorded
from data_platform_core.warehouse.connections import connect

pytestmark = pytest.mark.integration

HOUR = between("2026-03-01 09:00", "2026-03-01 10:00")


@pytest.fixture
def fresh(stack: Topology, settings: SettingsOf) -> Iterator[SettingsOf]:
    with migrated_database(stack, settings, "crm_completions") as found:
        yield found


def rows(settings_of: SettingsOf, columns: str = "pipeline, outcome, attempts, detail") -> list[tuple[Any, ...]]:
    with connect(settings_of("reader").postgres, "test") as connection:
        return connection.execute(f"SELECT {columns} FROM ops.pipeline_completion_log".encode()).fetchall()


def run(settings_of: SettingsOf, error: Exception | None = None, detail: str = "") -> None:
    """A run of the load that ends with `error`, if there is one."""
    batch = settings_of("batch").postgres
    with suppress(ServiceError, ConfigurationError, ValueError), recorded(batch, "load-warehouse", HOUR) as found:
        found.detail = detail
        if error:
            raise error


def test_a_success_and_its_repetition_are_one_row_with_the_first_ones_time(fresh: SettingsOf) -> None:
    run(fresh, detail="12 rows")
    ((first,),) = rows(fresh, "completed_at")
    run(fresh, detail="0 rows")
    assert rows(fresh) == [("load-warehouse", "succeeded", 2, "0 rows")]
    assert rows(fresh, "completed_at, finished_at > completed_at") == [(first, True)]


def test_a_failure_is_recorded_with_its_line_and_a_later_success_completes_the_interval(fresh: SettingsOf) -> None:
    run(fresh, ServiceError("bucket crm-lake is missing"))
    assert rows(fresh) == [("load-warehouse", "failed", 1, "bucket crm-lake is missing")]
    assert rows(fresh, "completed_at") == [(None,)]
    run(fresh)
    assert rows(fresh) == [("load-warehouse", "succeeded", 2, "")]


def test_a_failure_after_a_success_does_not_make_the_interval_incomplete(fresh: SettingsOf) -> None:
    run(fresh)
    run(fresh, ConfigurationError("no"))
    assert rows(fresh, "outcome, completed_at IS NOT NULL") == [("failed", True)]


def test_the_text_of_a_bug_is_not_recorded_because_it_may_quote_a_record(fresh: SettingsOf) -> None:
    run(fresh, ValueError("customer@example.com"))
    assert rows(fresh) == [("load-warehouse", "failed", 1, "ValueError")]


def test_a_detail_is_one_line_of_bounded_length(fresh: SettingsOf) -> None:
    run(fresh, ServiceError("a\nb\0" + "c" * 1000))
    ((detail,),) = rows(fresh, "detail")
    assert detail.startswith("a b c")
    assert len(detail) == 500


def test_an_error_of_the_job_passes_on(fresh: SettingsOf) -> None:
    with pytest.raises(ServiceError, match="mine"), recorded(fresh("batch").postgres, "load-warehouse", HOUR):
        raise ServiceError("mine")


@pytest.mark.parametrize(
    ("service", "database", "said"),
    [
        ("monitoring", "crm_completions", "reading the outcomes failed for user 'crm_monitoring'"),
        ("batch", "no_such_database", "no database 'no_such_database'"),
    ],
)
def test_a_job_that_could_not_record_its_outcome_does_not_begin(
    fresh: SettingsOf, service: str, database: str, said: str
) -> None:
    where = in_trial_database(fresh(service), database=database)
    with pytest.raises(ServiceError, match=said), recorded(where.postgres, "load-warehouse", HOUR):
        pytest.fail("it began")


def test_an_interval_that_is_not_over_is_refused_before_the_job_begins(fresh: SettingsOf) -> None:
    future = between("2026-03-01 09:00", "2999-01-01 00:00")
    batch = fresh("batch").postgres
    with pytest.raises(ConfigurationError, match="is not over"), recorded(batch, "load-warehouse", future):
        pytest.fail("it began")


def test_a_warehouse_without_the_table_says_how_to_get_it(fresh: SettingsOf) -> None:
    with connect(fresh("admin").postgres, "test") as connection:
        connection.execute("DROP TABLE ops.pipeline_completion_log")
    batch = fresh("batch").postgres
    with pytest.raises(ServiceError, match="run `crm warehouse migrate`"), recorded(batch, "load-warehouse", HOUR):
        pytest.fail("it began")
