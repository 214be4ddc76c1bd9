"""The index of seen keys: exact, in order, and evicted in time."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest

from data_platform_core.streaming.ingest.dedup import SeenIndex

pytestmark = pytest.mark.unit


def keys(*names: object) -> bytes:
    return b"".join(hashlib.md5(str(name).encode()).digest() for name in names)


def test_a_key_is_first_once_and_seen_afterwards() -> None:
    index = SeenIndex(window_ms=1000)
    assert index.first_arrivals(keys("a", "b")).tolist() == [True, True]
    index.add(keys("a", "b"), newest_ms=0)
    assert index.first_arrivals(keys("b", "c", "a")).tolist() == [False, True, False]


def test_within_one_batch_only_the_first_of_equal_keys_is_first() -> None:
    assert SeenIndex(1000).first_arrivals(keys("a", "b", "a", "a", "b", "c")).tolist() == [
        True,
        True,
        False,
        False,
        False,
        True,
    ]


def test_asking_does_not_remember() -> None:
    index = SeenIndex(1000)
    index.first_arrivals(keys("a"))
    assert index.first_arrivals(keys("a")).tolist() == [True]


def test_keys_with_the_same_first_half_are_distinguished() -> None:
    index = SeenIndex(1000)
    index.add(b"\x01" * 8 + b"\x01" * 8 + b"\x01" * 8 + b"\x03" * 8, newest_ms=0)
    asked = b"".join(b"\x01" * 8 + bytes([low]) * 8 for low in (1, 2, 3, 4))
    assert index.first_arrivals(asked).tolist() == [False, True, False, True]


def test_keys_older_than_the_window_are_evicted() -> None:
    index = SeenIndex(window_ms=1000)
    index.add(keys(*range(60_000)), newest_ms=0)  # a separate segment
    index.add(keys("new"), newest_ms=1001)
    assert len(index) == 1
    assert index.first_arrivals(keys(7, "new")).tolist() == [True, False]


def test_a_key_is_kept_to_the_last_millisecond_of_the_window_and_no_longer() -> None:
    index = SeenIndex(window_ms=1000)
    index.add(keys("old"), newest_ms=0)
    index.add(keys("edge"), newest_ms=1000)
    assert index.first_arrivals(keys("old", "edge")).tolist() == [False, False]
    index.add(keys("new"), newest_ms=1001)
    assert index.first_arrivals(keys("old", "edge", "new")).tolist() == [True, False, False]


def test_at_a_low_rate_keys_are_evicted_too() -> None:
    index = SeenIndex(window_ms=1000)
    for moment in range(0, 3000, 10):
        index.add(keys(moment), newest_ms=moment)
    remembered = [not first for first in index.first_arrivals(keys(*range(0, 3000, 10))).tolist()]
    assert remembered.index(True) * 10 in range(2990 - 1000 - 60, 2990 - 1000 + 1)


def test_an_empty_batch_changes_nothing() -> None:
    index = SeenIndex(1000)
    index.add(keys("a"), newest_ms=5)
    index.add(b"", newest_ms=5)
    assert len(index) == 1
    assert index.first_arrivals(b"").tolist() == []


def test_many_batches_agree_with_a_python_set() -> None:
    chance = random.Random(20)
    index, truth = SeenIndex(window_ms=10**9), set[int]()
    for batch in range(60):
        drawn = [chance.randrange(30_000) for _ in range(3_000)]
        expected = []
        for name in drawn:
            expected.append(name not in truth)
            truth.add(name)
        joined = keys(*drawn)
        first = index.first_arrivals(joined)
        assert first.tolist() == expected
        index.add(np.frombuffer(joined, dtype="V16")[first].tobytes(), newest_ms=batch)
    assert len(index) == len(truth)


def test_a_long_stream_of_small_batches_leaves_few_segments() -> None:
    """A lookup reads each of them."""
    index = SeenIndex(window_ms=10**9)
    for batch in range(300):
        index.add(np.random.default_rng(batch).bytes(16 * 5_000), newest_ms=batch)
    assert len(index) == 1_500_000
    assert len(index._segments) < 10
