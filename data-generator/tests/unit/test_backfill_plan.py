"""What a backfill will send: days, seasons, and the same sends in every process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from data_generator.backfill.history import History, HistoryModel
from data_generator.backfill.mark import Mark, mark_of
from data_generator.backfill.plan import BackfillScenario, Plan, Wish
from data_generator.backfill.tail import Tail
from data_generator.ledger import new_summary
from data_generator.model import Send
from data_generator.scenario import load_model, scenario_path
from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError, ServiceError

pytestmark = pytest.mark.unit

FILE = scenario_path("backfill")
TODAY = date(2026, 11, 21)
SEOUL = ZoneInfo("Asia/Seoul")


def plan(**wishes: Any) -> Plan:
    return Wish(path=FILE, **wishes).plan(today=TODAY)


def sends(contracts: dict[str, Contract], count: int, run_id: str = "a-run", **wishes: Any) -> list[tuple[str, Send]]:
    wanted = plan(**wishes)
    schema_ids = {entity: number for number, entity in enumerate(contracts, start=1)}
    model = HistoryModel(wanted, contracts, schema_ids, run_id, 0, 1_790_000_000_000)
    history = History(wanted, model)
    return [(model.lanes[s.lane].entity, s) for s in islice(chain(history.catalogue(), history.traffic()), count)]


def test_without_wishes_it_is_the_year_before_today() -> None:
    wanted = plan()
    assert (wanted.first, wanted.last) == (date(2025, 11, 21), date(2026, 11, 20))
    assert wanted.planned == pytest.approx(365 * 5_000, rel=0.02)


def test_the_scale_multiplies_and_a_tiny_one_still_sends_now_and_then() -> None:
    assert plan(scale=0.1).planned == pytest.approx(plan().planned / 10, abs=1)
    tiny = plan(scale=0.00005)
    counts = tiny.curve.counts(tiny.first, tiny.last)
    assert set(counts) == {0, 1}
    assert sum(counts) == pytest.approx(365 * 0.25, rel=0.05)


def test_november_is_busier_than_august_and_saturday_than_friday() -> None:
    curve = plan().curve
    assert curve.expected(date(2026, 11, 15)) / curve.expected(date(2026, 8, 16)) > 1.4
    assert curve.expected(date(2026, 5, 16)) > curve.expected(date(2026, 5, 15)) * 1.15


def test_a_month_goes_over_into_the_next_without_a_step() -> None:
    curve = plan().curve
    days = [date.fromordinal(date(2026, 1, 5).toordinal() + 7 * week) for week in range(52)]
    expected = [curve.expected(day) for day in days]
    assert max(abs(a / b - 1) for a, b in pairwise(expected)) < 0.12


def test_records_of_a_day_are_within_it_ascending_and_few_before_dawn() -> None:
    day = date(2026, 3, 4)
    times = plan().curve.times(day, 5_000)
    local = [datetime.fromtimestamp(ms / 1000, SEOUL) for ms in times]
    assert times == sorted(times)
    assert {moment.date() for moment in local} == {day}
    by_hour = [sum(moment.hour == hour for moment in local) for hour in range(24)]
    assert by_hour.index(max(by_hour)) in (20, 21)
    assert max(by_hour) > 5 * by_hour[4]


def test_a_day_on_which_clocks_change_has_its_records_too() -> None:
    scenario = load_model(BackfillScenario, FILE, {"curve.zone": "Europe/Berlin"})
    curve = plan().model_copy(update={"scenario": scenario}).curve
    times = curve.times(date(2026, 3, 29), 230)
    span_h = (times[-1] - times[0]) / 3_600_000
    assert span_h < 23
    assert datetime.fromtimestamp(times[0] / 1000, UTC).date() == date(2026, 3, 28)


def test_two_processes_of_one_plan_deal_out_the_same_bytes(contracts: dict[str, Contract]) -> None:
    assert sends(contracts, 5_000, scale=0.1) == sends(contracts, 5_000, scale=0.1)
    assert sends(contracts, 5_000, scale=0.1) != sends(contracts, 5_000, scale=0.1, seed=1)


def test_numbers_are_dense_by_entity(contracts: dict[str, Contract]) -> None:
    numbers: dict[str, list[int]] = {}
    for entity, send in sends(contracts, 5_000, scale=0.1):
        numbers.setdefault(entity, []).append(send.seq)
    assert set(numbers) == set(contracts)
    assert all(seqs == list(range(len(seqs))) for seqs in numbers.values())


@pytest.mark.parametrize("scale", [0.02, 5.0])
def test_records_are_of_the_past_and_a_visit_lasts_minutes_not_hours(
    contracts: dict[str, Contract], decode: Callable[[str, bytes], dict[str, Any]], scale: float
) -> None:
    visits: dict[str, list[int]] = {}
    purchases: dict[str, int] = {}
    placed: dict[str, int] = {}
    for entity, send in sends(contracts, 6_000, scale=scale):
        if send.injected:
            continue
        record = decode(entity, send.value)
        assert record["source"] == "backfill"
        assert record["produced_ts"] == 1_790_000_000_000
        assert record["event_ts"] < datetime(2026, 11, 21, tzinfo=SEOUL).timestamp() * 1000
        if entity == "events":
            visits.setdefault(record["session_id"], []).append(record["event_ts"])
            if record["event_type"] == "purchase":
                purchases[record["order_id"]] = record["event_ts"]
        if entity == "orders" and record["order_status"] == "placed":
            placed[record["order_id"]] = record["event_ts"]
    assert all(times == sorted(times) for times in visits.values())
    assert max(times[-1] - times[0] for times in visits.values()) < 2 * 3_600_000
    both = purchases.keys() & placed.keys()
    assert both
    assert all(0 <= placed[order] - purchases[order] < 600_000 for order in both)


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({"last": TODAY}, r"--to 2026-11-21 is not over yet in Asia/Seoul"),
        ({"first": date(2026, 5, 2), "last": date(2026, 5, 1)}, "--from 2026-05-02 is after --to 2026-05-01"),
        ({"first": date(1999, 1, 1)}, "--from 1999-01-01: contracts take no event before 2000"),
        ({"scale": 0.0}, "--scale is 0"),
        ({"scale": -1.0}, "--scale is -1"),
    ],
)
def test_an_impossible_wish_is_refused_by_name(wishes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        plan(**wishes)


def test_a_scenario_that_would_be_late_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"inject\.late is 0\.1: a backfill is never late"):
        load_model(BackfillScenario, FILE, {"inject.late": 0.1})
    with pytest.raises(ConfigurationError, match="month 3"):
        load_model(BackfillScenario, FILE, {"curve.months": [1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]})


def test_a_resumed_run_keeps_its_options_and_each_difference_is_named() -> None:
    before = plan(scale=0.5, seed=7)
    a_week_later = date(2026, 11, 28)
    assert Wish(path=FILE).plan(before, a_week_later).differences(before) == []
    other = Wish(path=FILE, scale=0.6, last=date(2026, 11, 19), seed=8).plan(before, a_week_later)
    assert other.differences(before) == [
        "--scale is 0.6, was 0.5",
        "--seed is 8, was 7",
        "--to is 2026-11-19, was 2026-11-20",
    ]


def test_only_a_backfill_that_began_can_be_resumed() -> None:
    with pytest.raises(ConfigurationError, match=r"run 'x' never began"):
        mark_of(None, "x")
    normal = new_summary("x", 0, "normal", 1, None)
    with pytest.raises(ConfigurationError, match="of scenario 'normal', which can't be resumed"):
        mark_of(normal, "x")
    mark = Mark(plan=plan(), produced_ms=1, ends={"orders": {0: 17}})
    assert mark_of(normal.model_copy(update={"resume_from": mark.model_dump(mode="json")}), "x") == mark


def test_a_log_that_two_processes_wrote_is_not_resumed() -> None:
    tail = Tail()
    tail.take("t", 0, 10, 3, b"a")
    tail.take("t", 1, 10, 2, b"b")
    with pytest.raises(ServiceError, match=r"t/2/5 is send 3 again, which is at 0/10"):
        tail.take("t", 2, 5, 3, b"a")
    with pytest.raises(ServiceError, match=r"t/0/11 is send 1, behind a later one"):
        tail.take("t", 0, 11, 1, b"c")
