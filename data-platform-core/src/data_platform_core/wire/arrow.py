"""The lake's own columns as Arrow types; a separate module, so that readers of names and types need no Arrow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pyarrow as pa

from data_platform_core.wire.columns import ColumnType, LakeColumn

_ARROW: Final = {
    ColumnType.BINARY: pa.binary(),
    ColumnType.STRING: pa.string(),
    ColumnType.INT: pa.int32(),
    ColumnType.LONG: pa.int64(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    ColumnType.DATE: pa.date32(),
}


def arrow_fields(columns: Iterable[LakeColumn]) -> list[pa.Field]:
    """The columns as Arrow reads them from the lake, nullable."""
    return [pa.field(column.name, _ARROW[column.type]) for column in columns]
