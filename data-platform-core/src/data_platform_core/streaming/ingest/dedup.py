"""Deduplication: an exact index of idempotency keys over the contract's window.

Spark's streaming deduplication silently drops records behind its watermark, and accounting can't allow that. A MERGE
costs seconds per batch. Instead the driver holds 16 bytes (MD5) of each key that silver has committed within the
window: 100/s for 24 hours is 140 MB. Silver is the source of truth. After a restart the index is rebuilt from it, so a
replayed batch is checked against the same keys (ADR 0003).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_platform_core.wire.keys import KEY_BYTES

# Segments below this are merged into the next, so that a lookup searches few of them. None grows above the larger
# limit, whose sort pauses for 0.2 s.
_SMALL_SEGMENT = 50_000
_LARGE_SEGMENT = 1_000_000

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Segment:
    """Keys in sorted order, as two halves of 64 bits.

    `first_ms` and `newest_ms` are the newest arrivals (Kafka time) of its first and its last batch.
    """

    high: npt.NDArray[np.uint64]
    low: npt.NDArray[np.uint64]
    first_ms: int
    newest_ms: int

    @staticmethod
    def of(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64], first_ms: int, newest_ms: int) -> _Segment:
        order = np.lexsort((low, high))
        return _Segment(high[order], low[order], first_ms, newest_ms)

    def contains(self, high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> Flags:
        found = np.zeros(len(high), dtype=bool)
        at = np.searchsorted(self.high, high)
        # Different keys share a high half with probability 2^-64 each. Otherwise the loop ends after one round.
        open_ = np.flatnonzero(at < len(self.high))
        while len(open_):
            place = at[open_]
            same = self.high[place] == high[open_]
            found[open_] |= same & (self.low[place] == low[open_])
            open_ = open_[same & ~found[open_]]
            at[open_] += 1
            open_ = open_[at[open_] < len(self.high)]
        return found


class SeenIndex:
    """An exact set of 16-byte keys that evicts keys older than `window_ms` of Kafka time."""

    #: A segment is evicted as a whole. It spans at most this part of the window, which bounds how long a key overstays.
    PARTS = 20

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._segments: list[_Segment] = []

    def __len__(self) -> int:
        return sum(len(segment.high) for segment in self._segments)

    @property
    def nbytes(self) -> int:
        """Bytes that the keys occupy."""
        return sum(segment.high.nbytes + segment.low.nbytes for segment in self._segments)

    def first_arrivals(self, keys: bytes) -> Flags:
        """True for each key that is neither in the index nor earlier in `keys` (concatenated 16-byte keys)."""
        high, low = _halves(keys)
        order = np.lexsort((np.arange(len(high)), low, high))
        high, low = high[order], low[order]  # sorted, so that neighbours share cache lines
        unseen = _starts_of_runs(high, low)
        for segment in self._segments:
            unseen &= ~segment.contains(high, low)
        first = np.zeros(len(high), dtype=bool)
        first[order] = unseen
        return first

    def add(self, keys: bytes, newest_ms: int, first_ms: int | None = None) -> None:
        """Add keys whose newest arrival was at `newest_ms`; evict keys that left the window.

        `first_ms`: the oldest arrival, if the keys come from many batches.
        """
        high, low = _halves(keys)
        if len(high):
            first_ms = newest_ms if first_ms is None else first_ms
            while self._segments and self._takes_more(self._segments[-1], len(high), newest_ms):
                last = self._segments.pop()
                high, low = np.concatenate((high, last.high)), np.concatenate((low, last.low))
                first_ms, newest_ms = min(first_ms, last.first_ms), max(newest_ms, last.newest_ms)
            self._segments.append(_Segment.of(high, low, first_ms, newest_ms))
        horizon = max((s.newest_ms for s in self._segments), default=0) - self._window_ms
        self._segments = [segment for segment in self._segments if segment.newest_ms >= horizon]

    def _takes_more(self, segment: _Segment, keys: int, newest_ms: int) -> bool:
        """Whether a segment is re-sorted together with the keys that follow it.

        Segments of similar size merge, so that a key is re-sorted only a few times and a lookup searches few segments.
        """
        size = len(segment.high)
        if newest_ms - segment.first_ms > self._window_ms / self.PARTS:
            return False
        return size < _SMALL_SEGMENT or (size <= keys and size + keys <= _LARGE_SEGMENT)


def joined_keys(column: pa.Array | pa.ChunkedArray) -> bytes:
    """The keys of a binary column without nulls, concatenated."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return b"".join(_values(chunk.cast(pa.binary(KEY_BYTES))) for chunk in chunks)


def _values(keys: pa.FixedSizeBinaryArray) -> bytes:
    begin = keys.offset * KEY_BYTES
    return bytes(memoryview(keys.buffers()[1])[begin : begin + len(keys) * KEY_BYTES])


def _halves(keys: bytes) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    pairs = np.frombuffer(keys, dtype=np.uint64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _starts_of_runs(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> Flags:
    starts = np.ones(len(high), dtype=bool)
    starts[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return starts
