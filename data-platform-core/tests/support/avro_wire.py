"""Avro bytes of a record at its wire level: text may be any bytes, a number may be too long for its type.

The contract's own encoders refuse what another producer may send; this one does not.
"""

from __future__ import annotations

import struct
from typing import Any

FRAME = struct.Struct(">BI")
MAGIC = 0


def framed(avro: dict[str, Any], schema_id: int, record: dict[str, Any]) -> bytes:
    """Confluent's frame and the body."""
    return FRAME.pack(MAGIC, schema_id) + encode(avro, record)


def encode(avro_type: Any, value: Any) -> bytes:
    """`value` as `avro_type`. Text is `str` or `bytes`, times and days are whole numbers."""
    if isinstance(avro_type, list):
        branch = next(n for n, kind in enumerate(avro_type) if (kind == "null") == (value is None))
        return _long(branch) + encode(avro_type[branch], value)
    if isinstance(avro_type, str):
        return _PRIMITIVES[avro_type](value)
    kind = avro_type["type"]
    return _COMPLEX[kind](avro_type, value) if kind in _COMPLEX else encode(kind, value)


def _block(items: list[bytes]) -> bytes:
    return (_long(len(items)) + b"".join(items) if items else b"") + b"\x00"


def _long(number: int) -> bytes:
    zigzag = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def _text(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return _long(len(data)) + data


_PRIMITIVES = {
    "null": lambda value: b"",
    "boolean": lambda value: b"\x01" if value else b"\x00",
    "int": _long,
    "long": _long,
    "float": lambda value: struct.pack("<f", value),
    "double": lambda value: struct.pack("<d", value),
    "string": _text,
}
_COMPLEX = {
    "record": lambda kind, value: b"".join(encode(field["type"], value[field["name"]]) for field in kind["fields"]),
    "array": lambda kind, value: _block([encode(kind["items"], item) for item in value]),
    "map": lambda kind, value: _block([_text(key) + encode(kind["values"], item) for key, item in value.items()]),
    "enum": lambda kind, value: _long(kind["symbols"].index(value)),
}
