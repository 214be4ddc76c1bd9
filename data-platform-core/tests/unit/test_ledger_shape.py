"""The ledger's shape: what travels in the header, and what may be concluded from a summary."""

from __future__ import annotations

import pytest

from data_platform_core.ledger import Origin, ProducerSummary, origin, parse_origin, unsettled_below

pytestmark = pytest.mark.unit


def summary(**changes: object) -> ProducerSummary:
    values = {"run_id": "r", "producer_id": 0, "scenario": "normal", "seed": 1, "started_at": "2026-11-21T00:00:00Z"}
    return ProducerSummary.model_validate({**values, **changes})


def test_what_the_header_says_is_read_back() -> None:
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
