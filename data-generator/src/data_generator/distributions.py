"""The model's distributions. Each draws from a given number in [0, 1), so that the caller controls the seed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

T = TypeVar("T")


class Weighted(Generic[T]):
    """Values drawn in proportion to their weights."""

    __slots__ = ("_bounds", "values")

    def __init__(self, values: Sequence[T], weights: Iterable[float]) -> None:
        cumulated = list(accumulate(weights))
        if len(cumulated) != len(values) or not values or cumulated[-1] <= 0:
            raise ValueError("a weight for each value, and not all of them 0")
        self.values = list(values)
        # The last bound is omitted, so that rounding can't exceed the end.
        self._bounds = [bound / cumulated[-1] for bound in cumulated[:-1]]

    @classmethod
    def of(cls, shares: Mapping[T, float]) -> Weighted[T]:
        return cls(list(shares), shares.values())

    @property
    def bounds(self) -> list[float]:
        """The bounds for `pick`: where in [0, 1) each value except the first begins."""
        return self._bounds

    def pick(self, uniform: float) -> T:
        return self.values[bisect_right(self._bounds, uniform)]


def zipf(values: Sequence[T], exponent: float) -> Weighted[T]:
    """The k-th value with weight 1 / k^exponent: a few products account for most sales."""
    return Weighted(values, (1 / rank**exponent for rank in range(1, len(values) + 1)))
