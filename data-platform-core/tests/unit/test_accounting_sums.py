"""A5: sums of silver beside those of the warehouse; a difference of one row or one KRW is reported."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_platform_core.accounting.covered import DailyMart, EachMart, NewestMart, covered_marts, read_marts
from data_platform_core.accounting.marts import business_timezone
from data_platform_core.accounting.sums import (
    ANY,
    Group,
    Measure,
    Total,
    a5_sums,
    latest,
    not_replaced,
    of_run,
    only,
    sums,
    total_rows,
    with_business_date,
)
from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError

pytestmark = pytest.mark.unit

ORDERS = Measure("order_status", "amount_krw")
FRIDAY, SATURDAY = "2026-11-20", "2026-11-21"


def order(number: int, status: str, amount: int, hour: int = 12, day: int = 21, **more: Any) -> dict[str, Any]:
    moment = datetime(2026, 11, day, hour, tzinfo=UTC)
    row = {
        "order_id": f"o{number}", "order_status": status, "amount_krw": amount, "event_ts": moment,
        "produced_ts": moment, "kafka_offset": number, "kafka_partition": 0, "event_date": moment.date(), "run_id": "r",
    }  # fmt: skip
    return {**row, **more}


def table(*rows: dict[str, Any]) -> pa.Table:
    schema = pa.schema(
        [("order_id", pa.string()), ("order_status", pa.string()), ("amount_krw", pa.int64()),
         ("event_ts", pa.timestamp("us", tz="UTC")), ("produced_ts", pa.timestamp("us", tz="UTC")),
         ("kafka_offset", pa.int64()), ("kafka_partition", pa.int32()), ("event_date", pa.date32()),
         ("run_id", pa.string())]
    )  # fmt: skip
    return pa.Table.from_pylist(list(rows), schema)


SILVER = sums(
    table(order(1, "paid", 1000), order(2, "paid", 500), order(3, "placed", 70), order(4, "paid", 9, day=20)), ORDERS
)


def test_rows_and_amounts_are_summed_per_day_and_status() -> None:
    assert {
        Group(SATURDAY, "paid"): Total(2, 1500),
        Group(SATURDAY, "placed"): Total(1, 70),
        Group(FRIDAY, "paid"): Total(1, 9),
    } == SILVER
    assert total_rows(SILVER) == 4


def test_an_entity_without_kind_and_amount_is_counted_per_day() -> None:
    assert sums(table(order(1, "paid", 5), order(2, "placed", 5)), Measure()) == {Group(SATURDAY, ANY): Total(2)}


def test_amounts_beyond_32_bits_stay_exact() -> None:
    big = 9_007_199_254_740_993  # the first whole number that a double can't hold
    assert sums(table(order(1, "paid", big)), ORDERS) == {Group(SATURDAY, "paid"): Total(1, big)}


def test_equal_sums_hold() -> None:
    assert a5_sums(SILVER, "marts.fct", dict(SILVER)) == []
    assert a5_sums({}, "marts.fct", {}) == []


def test_one_krw_is_missed() -> None:
    other = {**SILVER, Group(SATURDAY, "paid"): Total(2, 1499)}
    (found,) = a5_sums(SILVER, "marts.mart_daily_sales", other)
    assert found.examples == (f"{SATURDAY} paid: 2 rows 1,499 KRW, silver 2 rows 1,500 KRW",)
    assert "marts.mart_daily_sales" in found.what


def test_one_row_is_missed_even_when_the_amount_is_right() -> None:
    (found,) = a5_sums(SILVER, "marts.fct", {**SILVER, Group(SATURDAY, "paid"): Total(1, 1500)})
    assert found.count == 1


def test_a_group_that_only_one_side_has_is_reported() -> None:
    missing = {group: total for group, total in SILVER.items() if group.day != FRIDAY}
    (found,) = a5_sums(SILVER, "marts.fct", missing)
    assert found.examples == (f"{FRIDAY} paid: 0 rows, silver 1 rows 9 KRW",)
    (found,) = a5_sums(missing, "marts.fct", SILVER)
    assert found.examples == (f"{FRIDAY} paid: 1 rows 9 KRW, silver 0 rows",)


def test_rows_that_moved_to_another_day_are_reported_on_both() -> None:
    moved = {Group(SATURDAY, "paid"): Total(3, 1509), Group(SATURDAY, "placed"): Total(1, 70)}
    (found,) = a5_sums(SILVER, "marts.fct", moved)
    assert found.count == 2


def test_of_an_order_only_the_newest_state_counts() -> None:
    rows = table(order(1, "refunded", 10, hour=15), order(1, "placed", 10, hour=9), order(1, "paid", 10, hour=12))
    assert sums(latest(rows, ("order_id",)), ORDERS, day=None) == {Group("-", "refunded"): Total(1, 10)}


def test_of_two_states_at_one_moment_the_later_arrival_counts() -> None:
    rows = table(order(1, "paid", 10, kafka_offset=8), order(1, "placed", 10, kafka_offset=7))
    assert latest(rows, ("order_id",))["order_status"].to_pylist() == ["paid"]


def test_of_equal_offsets_the_higher_partition_is_the_newest() -> None:
    """Another producer chose another key: the order is in two partitions."""
    rows = table(order(1, "paid", 10, kafka_partition=2), order(1, "placed", 10, kafka_partition=1))
    assert latest(rows, ("order_id",))["order_status"].to_pylist() == ["paid"]
    assert latest(rows.take([1, 0]), ("order_id",))["order_status"].to_pylist() == ["paid"]


def test_a_business_day_begins_at_midnight_of_its_time_zone() -> None:
    rows = with_business_date(table(order(1, "paid", 1, hour=14), order(2, "paid", 1, hour=15)), "Asia/Seoul")
    assert rows["business_date"].to_pylist() == [date(2026, 11, 21), date(2026, 11, 22)]
    assert sums(rows, ORDERS, day="business_date").keys() == {Group("2026-11-22", "paid"), Group(SATURDAY, "paid")}


def test_a_run_is_separated_from_the_rest() -> None:
    assert total_rows(sums(of_run(table(order(1, "paid", 1), order(2, "paid", 1, run_id="other")), "r"), ORDERS)) == 1


def test_a_mart_of_some_kinds_is_compared_on_these_and_on_all_together() -> None:
    assert only(SILVER, ["placed"]) == {Group(SATURDAY, "placed"): Total(1, 70)}
    assert only(SILVER, [ANY]) == {Group(SATURDAY, ANY): Total(3, 1570), Group(FRIDAY, ANY): Total(1, 9)}


def test_every_entity_has_a_mart_that_is_summed(contracts: dict[str, Contract]) -> None:
    assert {mart.entity for mart in covered_marts()} == set(contracts)


def test_marts_are_summed_by_columns_of_the_contract(contracts: dict[str, Contract]) -> None:
    for mart in covered_marts():
        if isinstance(mart, NewestMart):
            assert {*mart.key, *mart.only, *([mart.kind] if mart.kind else [])} <= set(contracts[mart.entity].columns)


def test_daily_marts_count_only_kinds_that_the_contract_accepts(contracts: dict[str, Contract]) -> None:
    for daily in covered_marts():
        if isinstance(daily, DailyMart):
            contract = contracts[daily.entity]
            assert set(daily.kinds) - {ANY} <= set(contract.accepted_values[contract.sums.kind])


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with two marts, of which one is described."""
    (tmp_path / "_marts.yml").write_text(
        "models: [{name: fct_a, config: {meta: {accounting: {entity: events, rows: each}}}}]", encoding="utf-8"
    )
    for name in ("fct_a", "mart_new"):
        (tmp_path / f"{name}.sql").write_text("select 1", encoding="utf-8")
    return tmp_path


def test_a_mart_without_accounting_is_refused_by_name(models: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"mart mart_new: config\.meta\.accounting in .* is missing; say how"):
        read_marts(models)


def test_a_mart_with_a_reason_not_to_be_summed_is_skipped(models: Path) -> None:
    (models / "_new.yml").write_text(
        "models: [{name: mart_new, config: {meta: {accounting: {none: counts nothing}}}}]", encoding="utf-8"
    )
    assert read_marts(models) == (EachMart(name="fct_a", entity="events", rows="each"),)


@pytest.mark.parametrize(
    ("accounting", "named"),
    [
        ("{entity: events, rows: hourly}", "hourly"),
        ("{entity: events, rows: daily}", "kinds"),
        ("{entity: events, rows: each, sum: yes}", "sum"),
        ("{none: ''}", "none"),
    ],
)
def test_accounting_that_is_not_understood_is_refused_by_name(models: Path, accounting: str, named: str) -> None:
    (models / "_new.yml").write_text(
        f"models: [{{name: mart_new, config: {{meta: {{accounting: {accounting}}}}}}}]", encoding="utf-8"
    )
    with pytest.raises(ConfigurationError, match=f"mart mart_new: .*{named}"):
        read_marts(models)


def test_the_time_zone_is_dbts() -> None:
    assert with_business_date(table(order(1, "paid", 1)), business_timezone())["business_date"].null_count == 0


def test_a_state_that_was_sent_again_counts_once_as_it_was_produced_last() -> None:
    sent = order(1, "placed", 100, day=20)
    again = order(1, "placed", 150, day=20, produced_ts=datetime(2026, 11, 21, tzinfo=UTC), kafka_offset=0)
    rows = not_replaced(table(again, sent, order(1, "paid", 100), order(2, "placed", 7)), ("order_id", "order_status"))
    found = sorted((row["order_id"], row["order_status"], row["amount_krw"]) for row in rows.to_pylist())
    assert found == [("o1", "paid", 100), ("o1", "placed", 150), ("o2", "placed", 7)]


def test_amounts_beyond_an_int64_are_summed_exactly() -> None:
    most = 9_000_000_000_000_000_000
    found = sums(table(order(1, "paid", most), order(2, "paid", most)), ORDERS)
    assert found[Group(SATURDAY, "paid")] == Total(2, 2 * most)
