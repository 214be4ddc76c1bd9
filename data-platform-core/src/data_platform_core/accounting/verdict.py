"""What an equation says: nothing when it holds, else what is wrong, how often, with a few examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_platform_core.wire.positions import OFFSET_BITS

Longs = npt.NDArray[np.int64]

#: Examples per violation: enough to start looking, short enough to read.
EXAMPLES = 5

# A partition or producer, and an offset or sequence number, in one int64.
_BITS = OFFSET_BITS
_LOW = (1 << _BITS) - 1


@dataclass(frozen=True)
class Violation:
    """`count` records (or groups) of which `what` is true; `examples` name at most EXAMPLES of them."""

    what: str
    count: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = ", ".join(self.examples)
        return f"{self.count:,} {self.what}" + (f": {shown}" if shown else "")


def pack(high: Longs, low: Longs) -> Longs:
    """(partition, offset) or (producer, seq) as one int64 each."""
    packed: Longs = (high.astype(np.int64) << _BITS) | low.astype(np.int64)
    return packed


def unpack(packed: int) -> tuple[int, int]:
    """The inverse of `pack`, of one."""
    return int(packed) >> _BITS, int(packed) & _LOW


def halves(packed: Longs) -> tuple[Longs, Longs]:
    """The inverse of `pack`, of many."""
    return packed >> _BITS, packed & _LOW


def violations(what: str, packed: Longs, name: Callable[[int, int], str]) -> list[Violation]:
    """One violation for the distinct members of `packed`, none when it is empty."""
    distinct = np.unique(packed)
    if not len(distinct):
        return []
    return [Violation(what, len(distinct), tuple(name(*unpack(one)) for one in distinct[:EXAMPLES]))]


def place(topic: str) -> Callable[[int, int], str]:
    """Names a packed position: topic/partition/offset."""
    return lambda partition, offset: f"{topic}/{partition}/{offset}"


def send(producer: int, seq: int) -> str:
    """Names a packed send: producer and sequence number."""
    return f"producer {producer} seq {seq}"


def repeated(packed: Longs) -> Longs:
    """The members that occur more than once."""
    distinct, counts = np.unique(packed, return_counts=True)
    return distinct[counts > 1]


def lookup(keys: Longs, wanted: Longs) -> Longs:
    """For each of `wanted` an index into `keys` where it stands, -1 when it does not."""
    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    at = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)
    found = order[at]
    indexes: Longs = np.where(keys[found] == wanted, found, -1)
    return indexes
