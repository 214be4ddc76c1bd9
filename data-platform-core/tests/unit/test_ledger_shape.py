"""The ledger's shape: what the header has, and what a summary proves."""

from __future__ import annotations

import pytest

from data_platform_core.wire.ledger import (
    Origin,
    PhaseCount,
    ProducerSummary,
    newest_summary,
    origin,
    parse_origin,
    record_digest,
    summary_key,
    unsettled_below,
)

pytestmark = pytest.mark.unit


def summary(**changes: object) -> ProducerSummary:
    values = {"run_id": "r", "producer_id": 0, "scenario": "normal", "seed": 1, "started_at": "2026-11-21T00:00:00Z"}
    return ProducerSummary.model_validate({**values, **changes})


def test_the_header_is_read_back() -> None:
    assert parse_origin(origin("run-1", 3, 42)) == Origin("run-1", 3, 42)


@pytest.mark.parametrize("header", [None, b"", b"run-1", b"run-1/3", b"run-1/x/4", b"a/b/1/2", b"\xff/1/2"])
def test_a_header_that_is_not_ours_has_no_origin(header: bytes | None) -> None:
    assert parse_origin(header) is None


def test_after_a_clean_end_nothing_is_unsettled() -> None:
    assert unsettled_below(summary(finished=True, reserved={"orders": 500}), "orders") == 0


def test_of_a_killed_producer_all_that_was_reserved_may_have_been_sent() -> None:
    killed = summary(reserved={"orders": 500})
    assert unsettled_below(killed, "orders") == 500
    assert unsettled_below(killed, "events") == 0


def test_a_summary_from_before_phases_were_kept_is_still_read() -> None:
    old = (
        '{"run_id": "r", "producer_id": 0, "scenario": "normal", "seed": 1, "started_at": "2026-11-21T00:00:00Z", '
        '"finished": true, "sent": {"events": 5}, "reserved": {"events": 9}, "target_rate": 1.0, "achieved_rate": 1.0}'
    )
    read = ProducerSummary.model_validate_json(old)
    assert (read.due, read.worst_behind_s, read.phases) == (None, None, {})


def test_what_the_phases_asked_for_and_got_is_read_back() -> None:
    phases = {"hold": PhaseCount(seconds=300, due=900_000, acked=410_000)}
    written = summary(finished=True, due=900_000, worst_behind_s=358.2, phases=phases)
    assert ProducerSummary.model_validate_json(written.model_dump_json()) == written


def test_the_summary_with_the_highest_number_counts() -> None:
    keys = ["7/orders/part-000009.parquet", *(summary_key("", 7, number) for number in (2, 10, 1))]
    assert newest_summary(keys) == "7/summary-000010.json"
    assert newest_summary(["7/summary.json"]) == "7/summary.json"  # from before summaries had numbers
    assert newest_summary(keys[:1]) is None


def test_a_digest_is_of_key_and_value_and_of_where_one_ends() -> None:
    found = {record_digest(key, value) for key, value in ((b"1", b"23"), (b"12", b"3"), (b"1", b"24"), (b"", b"123"))}
    assert len(found) == 4
    assert record_digest(b"1", b"23") == 0x3B8EE28FF42DBDDD  # as in every ledger that was written
