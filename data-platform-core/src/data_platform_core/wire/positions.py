"""Packs (partition, offset) into one integer, so that large sets are small arrays."""

from __future__ import annotations

#: 2^44 offsets, and half a million partitions above them.
OFFSET_BITS = 44


def position(partition: int, offset: int) -> int:
    """One signed long for a (partition, offset)."""
    return (partition << OFFSET_BITS) | offset
