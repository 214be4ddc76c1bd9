"""Arrow columns built from buffers.

`pyarrow.array` imports pandas if it is installed: 1.3 s of CPU in every producer process, for nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def integers(values: Any, kind: Any) -> Any:
    """A NumPy array as a column of `kind`, without nulls."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def integers_then_nulls(values: array[int], nulls: int, kind: Any) -> Any:
    """`values`, followed by nulls."""
    known = np.frombuffer(values, dtype=values.typecode)
    padded = np.concatenate([known, np.zeros(nulls, dtype=known.dtype)])
    if not nulls:
        return integers(padded, kind)
    there = np.packbits(np.arange(len(padded)) < len(known), bitorder="little")
    return pa.Array.from_buffers(kind, len(padded), [pa.py_buffer(there), pa.py_buffer(padded)])


def strings(values: Sequence[str]) -> Any:
    """ASCII strings, without nulls."""
    ends = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=ends[1:])
    data = "".join(values).encode("ascii")
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(ends), pa.py_buffer(data))
