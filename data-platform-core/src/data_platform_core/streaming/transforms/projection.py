"""A select that is built once and used on each batch's frame.

Making a column in Python costs a handful of calls into the JVM, and a batch's steps have some hundred columns: built
anew, they took 57 ms of CPU in Python and about as much in the JVM, for each batch (ADR 0012).
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


class Projection:
    """`frame.select(*columns)`, with the columns kept in the JVM. Columns name what they read, not a frame."""

    def __init__(self, *columns: Column | str) -> None:
        self._columns = [F.col(column) if isinstance(column, str) else column for column in columns]
        self._jvm_columns: Any = None

    def __call__(self, frame: DataFrame) -> DataFrame:
        """The frame's columns as the projection has them."""
        if self._jvm_columns is None:
            self._jvm_columns = frame._jcols(*self._columns)
        return DataFrame(frame._jdf.select(self._jvm_columns), frame.sparkSession)
