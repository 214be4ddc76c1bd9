"""Random shapes the model draws from. All take their randomness as a number in [0, 1): the caller owns the seed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

T = TypeVar("T")


class Weighted(Generic[T]):
    """Values, each as often as its weight says."""

    __slots__ = ("_bounds", "values")

    def __init__(self, values: Sequence[T], weights: Iterable[float]) -> None:
        cumulated = list(accumulate(weights))
        if len(cumulated) != len(values) or not values or cumulated[-1] <= 0:
            raise ValueError("a weight for each value, and not all of them 0")
        self.values = list(values)
        # The last bound is left out: rounding can't lead past the end.
        self._bounds = [bound / cumulated[-1] for bound in cumulated[:-1]]

    @classmethod
    def of(cls, shares: Mapping[T, float]) -> Weighted[T]:
        return cls(list(shares), shares.values())

    @property
    def bounds(self) -> list[float]:
        """What `pick` searches: where in [0, 1) each value but the first begins."""
        return self._bounds

    def pick(self, uniform: float) -> T:
        return self.values[bisect_right(self._bounds, uniform)]


def zipf(values: Sequence[T], exponent: float) -> Weighted[T]:
    """The k-th value as often as 1 / k^exponent: a few products sell, most lie on the shelf."""
    return Weighted(values, (1 / rank**exponent for rank in range(1, len(values) + 1)))
