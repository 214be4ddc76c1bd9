"""The dead-letter envelope: what a reader gets back, and what is not a dead letter."""

from __future__ import annotations

import pytest

from data_platform_core.wire.dead_letters import Source, contract_reason, parse
from data_platform_core.wire.ledger import ORIGIN_HEADER, Origin, origin

pytestmark = pytest.mark.unit

HEADERS = {
    "dlq-reason": b"contract:has_lines",
    "dlq-source": b"crm.orders.v1/2/991",
    "dlq-timestamp": b"1795262400123",
    ORIGIN_HEADER: origin("run-1", 0, 17),
}


def test_a_dead_letter_has_reason_source_time_and_origin() -> None:
    letter = parse(b"k", b"\xff", list(HEADERS.items()))
    assert letter.reason == contract_reason("has_lines")
    assert letter.source == Source("crm.orders.v1", 2, 991)
    assert letter.timestamp_ms == 1_795_262_400_123
    assert letter.origin == Origin("run-1", 0, 17)
    assert (letter.key, letter.value) == (b"k", b"\xff")


def test_the_source_is_written_as_it_is_read() -> None:
    assert Source.parse(str(Source("crm.orders.v1", 2, 991))) == Source("crm.orders.v1", 2, 991)


def test_a_foreign_producers_dead_letter_has_no_origin() -> None:
    assert parse(None, None, [*list(HEADERS.items())[:3], (ORIGIN_HEADER, b"")]).origin is None


@pytest.mark.parametrize("missing", ["dlq-reason", "dlq-source", "dlq-timestamp"])
def test_a_missing_header_is_named(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        parse(None, None, [(name, value) for name, value in HEADERS.items() if name != missing])


@pytest.mark.parametrize(
    ("name", "value"), [("dlq-source", b"orders"), ("dlq-source", b"t/1/x"), ("dlq-timestamp", b"now")]
)
def test_a_malformed_header_is_named_with_its_value(name: str, value: bytes) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        parse(None, None, list({**HEADERS, name: value}.items()))


def test_a_record_without_headers_is_no_dead_letter() -> None:
    with pytest.raises(ValueError, match="dlq-reason is missing"):
        parse(b"k", b"v", None)
