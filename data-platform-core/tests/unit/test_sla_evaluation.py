"""What a check finds, for every kind of service level, at any moment."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from moments import between, utc
from service_levels import daily, definition, realtime

from data_platform_core.governance.definitions import problem
from data_platform_core.governance.evaluation import (
    Completion,
    Ended,
    Missed,
    Observed,
    Verdict,
    Violation,
    evaluate,
    first_moment,
)
from data_platform_core.governance.pipelines import Measure, Pipeline, known_pipelines
from data_platform_core.jobs import load_jobs
from data_platform_core.naming import names

pytestmark = pytest.mark.unit

NINE_TO_TEN = between("2026-03-01 09:00", "2026-03-01 10:00")
DUE = utc("2026-03-01 10:05")
HOURLY = definition(watched_since=DUE)
PIPELINES = known_pipelines(load_jobs().values(), [names("orders")], ["daily_etl"])


def done(at: str, interval: object = NINE_TO_TEN) -> Completion:
    assert isinstance(interval, type(NINE_TO_TEN))
    return Completion(interval, utc(at))


def violation(due_at: datetime = DUE, *, is_open: bool = True, is_escalated: bool = False) -> Violation:
    return Violation(7, NINE_TO_TEN, due_at, is_open, is_escalated)


def test_nothing_is_late_before_and_at_the_deadline() -> None:
    assert evaluate(HOURLY, Observed(), (), DUE) == Verdict()


def test_a_deadline_that_passed_without_a_run_is_missed() -> None:
    found = evaluate(HOURLY, Observed(), (), DUE + timedelta(seconds=1))
    assert found == Verdict(missed=(Missed(NINE_TO_TEN, DUE),))


def test_a_run_at_the_deadline_is_in_time() -> None:
    assert evaluate(HOURLY, Observed([done("2026-03-01 10:05")]), (), utc("2026-03-01 10:06")) == Verdict()


def test_an_interval_that_was_late_before_anybody_looked_is_a_violation_that_is_over() -> None:
    found = evaluate(HOURLY, Observed([done("2026-03-01 10:20")]), (), utc("2026-03-01 10:30"))
    assert found == Verdict(missed=(Missed(NINE_TO_TEN, DUE, utc("2026-03-01 10:20")),))


@pytest.mark.parametrize("is_open", [True, False])
def test_an_interval_is_violated_once(is_open: bool) -> None:
    found = evaluate(HOURLY, Observed(), [violation(is_open=is_open)], utc("2026-03-01 10:30"))
    assert found.missed == ()


def test_a_violation_ends_when_its_interval_is_completed() -> None:
    found = evaluate(HOURLY, Observed([done("2026-03-01 10:20")]), [violation()], utc("2026-03-01 10:30"))
    assert found == Verdict(ended=(Ended(7, "completed", utc("2026-03-01 10:20")),))


def test_a_later_interval_completes_an_earlier_one_only_where_a_run_catches_up() -> None:
    later = done("2026-03-01 10:30", between("2026-03-01 10:00", "2026-03-01 11:00"))
    now = utc("2026-03-01 10:40")
    assert evaluate(HOURLY, Observed([later]), [violation()], now) == Verdict()
    assert evaluate(HOURLY, Observed([later], catches_up=True), [violation()], now).ended == (
        Ended(7, "completed", utc("2026-03-01 10:30")),
    )


def test_the_first_run_that_completes_an_interval_counts() -> None:
    runs = [done("2026-03-01 10:50"), done("2026-03-01 10:04"), done("2026-03-01 10:20")]
    for catches_up in (False, True):
        assert evaluate(HOURLY, Observed(runs, catches_up), (), utc("2026-03-01 11:00")) == Verdict()


def test_an_earlier_interval_completes_no_later_one() -> None:
    earlier = done("2026-03-01 10:01", between("2026-03-01 08:00", "2026-03-01 09:00"))
    found = evaluate(HOURLY, Observed([earlier], catches_up=True), (), utc("2026-03-01 10:30"))
    assert found.missed == (Missed(NINE_TO_TEN, DUE),)


def test_a_violation_escalates_once_and_not_before_its_time() -> None:
    at = DUE + timedelta(minutes=60)
    assert evaluate(HOURLY, Observed(), [violation()], at - timedelta(seconds=1)).escalated == ()
    assert evaluate(HOURLY, Observed(), [violation()], at).escalated == (7,)
    assert evaluate(HOURLY, Observed(), [violation(is_escalated=True)], at).escalated == ()


def test_what_ended_does_not_escalate() -> None:
    found = evaluate(HOURLY, Observed([done("2026-03-01 12:00")]), [violation()], utc("2026-03-01 12:01"))
    assert (len(found.ended), found.escalated) == (1, ())


def test_deadlines_before_a_row_was_watched_are_not_checked() -> None:
    new = definition(watched_since=DUE + timedelta(seconds=1))
    assert evaluate(new, Observed(), (), utc("2026-03-01 11:00")) == Verdict()


def test_a_checker_that_was_away_finds_each_deadline_of_a_week_and_no_older_one() -> None:
    found = evaluate(definition(), Observed(), (), utc("2026-03-01 10:06"))
    assert len(found.missed) == 7 * 24
    assert found.missed[0].due_at == utc("2026-02-22 11:05")


def test_a_day_is_late_after_its_time_in_its_zone() -> None:
    marts = daily(540, watched_since=utc("2026-07-01 00:00"))
    assert evaluate(marts, Observed(), (), utc("2026-07-01 07:00")) == Verdict()
    (missed,) = evaluate(marts, Observed(), (), utc("2026-07-01 07:01")).missed
    assert missed == Missed(between("2026-06-29 22:00", "2026-06-30 22:00"), utc("2026-07-01 07:00"))


def test_a_disabled_row_ends_its_violations_and_opens_none() -> None:
    found = evaluate(definition(enabled=False), Observed(), [violation()], utc("2026-03-01 12:00"))
    assert found == Verdict(ended=(Ended(7, "disabled"),))


def test_data_that_is_older_than_promised_is_a_violation_and_newer_data_ends_it() -> None:
    orders, now = realtime(10), utc("2026-03-01 10:00")
    fresh, old = Observed(newest=now - timedelta(minutes=10)), Observed(newest=now - timedelta(minutes=11))
    stored = Violation(3, None, now, True, False)
    assert evaluate(orders, fresh, (), now) == Verdict()
    assert evaluate(orders, old, (), now) == Verdict(missed=(Missed(None, utc("2026-03-01 09:59")),))
    assert evaluate(orders, old, [stored], now) == Verdict()
    assert evaluate(orders, fresh, [stored], now) == Verdict(ended=(Ended(3, "completed", now),))


def test_a_pipeline_that_was_never_seen_has_its_minutes_from_when_it_is_watched() -> None:
    orders = realtime(10, watched_since=utc("2026-03-01 10:00"))
    assert evaluate(orders, Observed(), (), utc("2026-03-01 10:10")) == Verdict()
    assert evaluate(orders, Observed(), (), utc("2026-03-01 10:11")).missed == (Missed(None, utc("2026-03-01 10:10")),)


def test_completions_are_read_from_the_oldest_open_violation_on() -> None:
    now = utc("2026-03-20 10:00")
    assert first_moment(HOURLY, [violation()], now) == NINE_TO_TEN.end
    assert first_moment(HOURLY, [violation(is_open=False)], now) > NINE_TO_TEN.end


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (definition("lod-warehouse"), "SLA lod-warehouse/hourly: pipeline 'lod-warehouse' is unknown; known: acls, "),
        (definition(deadline_minutes=61), "deadline 61 min after the hour is impossible; give 1 to 60"),
        (definition(deadline_minutes=-5), "deadline -5 min after the hour is impossible"),
        (daily(1441), "deadline 1441 min after midnight is impossible; give 1 to 1440"),
        (realtime(10081), "deadline 10081 min of age is impossible; give 1 to 10080"),
        (daily(540, "Europe/Berln"), "time zone 'Europe/Berln' is unknown; give an IANA name"),
        (daily(540, "../etc/passwd"), "time zone '../etc/passwd' is unknown"),
        (daily(540, ""), "time zone '' is unknown"),
        (definition(owner=" "), "owner is empty; name who answers for it"),
        (definition("raw_crm.orders"), "kind 'hourly' needs a pipeline that records its runs; use kind 'realtime'"),
    ],
)
def test_a_row_that_can_not_be_checked_is_one_line_with_its_value(wrong: object, said: str) -> None:
    assert isinstance(wrong, type(HOURLY))
    line = problem(wrong, PIPELINES) or ""
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "right", [HOURLY, daily(540), realtime(5), realtime(5, "ingest_orders"), realtime(60, "load-warehouse")]
)
def test_a_row_that_can_be_checked_has_no_problem(right: object) -> None:
    assert isinstance(right, type(HOURLY))
    assert problem(right, PIPELINES) is None


def test_pipelines_are_jobs_landing_tables_queries_and_what_has_recorded_a_run() -> None:
    assert PIPELINES["load-warehouse"] == Pipeline("load-warehouse", Measure.COMPLETIONS, catches_up=True)
    assert PIPELINES["raw_crm.orders"] == Pipeline("raw_crm.orders", Measure.LOADS, "orders")
    assert PIPELINES["ingest_orders"] == Pipeline("ingest_orders", Measure.LAG, "orders")
    assert PIPELINES["daily_etl"] == Pipeline("daily_etl", Measure.COMPLETIONS)
