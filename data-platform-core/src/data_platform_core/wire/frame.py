"""Confluent's frame before each Avro body: a zero byte, then the schema's id in four bytes, big-endian.

Source: Confluent's "wire format" page. All code that writes or reads a framed value uses this module.
"""

from __future__ import annotations

from typing import Final

MAGIC: Final = b"\x00"
ID_BYTES: Final = 4
FRAME_BYTES: Final = len(MAGIC) + ID_BYTES


def frame(schema_id: int) -> bytes:
    """The bytes before the Avro body. Raises OverflowError for an id that is not 0 to 2^32 - 1."""
    return MAGIC + schema_id.to_bytes(ID_BYTES, "big")


def framed_id(value: bytes | None) -> int | None:
    """The schema id of a framed value; None if it has no frame or no body."""
    if value is None or len(value) <= FRAME_BYTES or not value.startswith(MAGIC):
        return None
    return int.from_bytes(value[len(MAGIC) : FRAME_BYTES], "big")
