"""Polling with a deadline: one loop for every deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_not_result, stop_after_delay, wait_fixed

_Answer = TypeVar("_Answer")


def ask_until(
    done: Callable[[_Answer], bool], ask: Callable[[], _Answer], *, within_s: float, every_s: float
) -> _Answer:
    """Call `ask` every `every_s` seconds until `done` of its answer, for `within_s` seconds; the last answer.

    Calls it at least once. The caller must check the answer after a timeout, because only the caller can phrase the
    error. Exceptions of `ask` propagate.
    """
    asking = Retrying(
        retry=retry_if_not_result(done),
        stop=stop_after_delay(within_s),
        wait=wait_fixed(every_s),
        retry_error_callback=_last,
    )
    return asking(ask)


def _last(state: RetryCallState) -> object:
    assert state.outcome is not None  # the deadline is checked after an answer
    return state.outcome.result()
