"""The loop of every deadline: it checks at least once, ends with the right answer, and returns the last one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from data_platform_core.waiting import ask_until

pytestmark = pytest.mark.unit


def answers(*values: int) -> Callable[[], int]:
    left = list(values)
    return lambda: left.pop(0)


def test_it_checks_until_the_answer_is_the_expected_one() -> None:
    ask = answers(1, 2, 3, 4)
    assert ask_until(lambda answer: answer == 3, ask, within_s=60, every_s=0) == 3
    assert ask() == 4


def test_after_the_deadline_the_last_answer_is_given_back() -> None:
    assert ask_until(lambda answer: False, answers(1, 2), within_s=0, every_s=0) == 1


def test_no_answer_at_all_is_an_answer() -> None:
    assert ask_until(bool, lambda: None, within_s=0, every_s=0) is None


def test_what_is_raised_passes_at_once() -> None:
    with pytest.raises(IndexError):
        ask_until(bool, answers(), within_s=60, every_s=0)
