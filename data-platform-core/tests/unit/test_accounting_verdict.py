"""Packed positions, what is looked up in them, and violations as text."""

from __future__ import annotations

import numpy as np
import pytest

from data_platform_core.accounting.verdict import (
    EXAMPLES,
    Violation,
    halves,
    lookup,
    pack,
    place,
    repeated,
    send,
    unpack,
    violations,
)  # fmt: skip

pytestmark = pytest.mark.unit


def longs(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_a_violation_reads_as_count_what_and_examples() -> None:
    assert str(Violation("records are missing", 1234, ("a/0/7", "a/0/8"))) == "1,234 records are missing: a/0/7, a/0/8"
    assert str(Violation("records are missing", 2)) == "2 records are missing"


def test_pairs_survive_being_packed() -> None:
    high, low = longs(0, 1, 4095), longs(2**40, 0, 7)
    packed = pack(high, low)
    assert [unpack(one) for one in packed] == list(zip(high.tolist(), low.tolist(), strict=True))
    assert [half.tolist() for half in halves(packed)] == [high.tolist(), low.tolist()]


def test_each_distinct_member_counts_once_and_the_lowest_are_named() -> None:
    packed = pack(longs(*[1] * 8, 1), longs(7, 6, 5, 4, 3, 2, 1, 0, 0))
    (found,) = violations("records are missing", packed, place("crm.events.v1"))
    assert (found.count, len(found.examples)) == (8, EXAMPLES)
    assert found.examples[:2] == ("crm.events.v1/1/0", "crm.events.v1/1/1")
    assert violations("records are missing", longs(), send) == []


def test_what_occurs_more_than_once_is_repeated() -> None:
    assert repeated(longs(3, 1, 3, 2, 3, 1)).tolist() == [1, 3]


@pytest.mark.parametrize("keys", [(), (5,), (9, 5, 7)])
def test_a_lookup_returns_the_index_of_each_key_or_minus_one(keys: tuple[int, ...]) -> None:
    wanted = (5, 4, 6, 9, 10, 7)
    expected = [keys.index(one) if one in keys else -1 for one in wanted]
    assert lookup(longs(*keys), longs(*wanted)).tolist() == expected
