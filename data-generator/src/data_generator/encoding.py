"""Avro bytes from the contract's schema, at the cost of one join.

fastavro encodes a record of 19 fields by walking schema and dictionary, about 10 us each time. The generator has 20 us
per record in all (50,000 records/s on one core), so `compile_payload` walks the schema once and writes a Python
function that does only the remaining work. The bytes equal fastavro's; a test checks that for every contract.

Each record is `frame + envelope + payload`: contracts put the envelope first, so it is encoded when the record is sent
(it holds the sequence number and the time) and the payload when the record is drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from data_platform_core.contracts import ENVELOPE, Contract
from data_platform_core.errors import ConfigurationError

Payload = Callable[..., bytes]
Envelope = Callable[[int, int, int], bytes]


def _varint(number: int) -> bytes:
    """Unsigned `number`, seven bits a byte, lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_TWO_BYTES = [_varint(number) for number in range(1 << 14)]
# The low 14 bits of a longer number: both bytes have the continuation bit.
_LOW_14 = [bytes((number & 0x7F | 0x80, number >> 7 | 0x80)) for number in range(1 << 14)]


class _HighBits(dict[int, bytes]):
    """Bytes above the low 14 bits. Times and sequence numbers share them for thousands of records."""

    def __missing__(self, number: int) -> bytes:
        if len(self) > 1 << 16:
            self.clear()
        encoded = self[number] = _varint(number)
        return encoded


_HIGH = _HighBits()


class Encoded(bytes):
    """An array that is already encoded as Avro bytes."""


def encode_long(number: int) -> bytes:
    """Avro int or long: zigzag, then varint."""
    zigzag = number << 1 if number >= 0 else (-number << 1) - 1
    return _TWO_BYTES[zigzag] if zigzag < 16384 else _LOW_14[zigzag & 16383] + _HIGH[zigzag >> 14]


def encode_string(text: str) -> bytes:
    """Avro string: length in bytes, then UTF-8."""
    data = text.encode()
    return encode_long(len(data)) + data


class _KnownStrings(dict[str | None, bytes]):
    """Encoded values of a field with few values. `branch` is the union's branch of a non-null value."""

    def __init__(self, branch: bytes = b"") -> None:
        super().__init__()
        self._branch = branch
        if branch:
            self[None] = b"\x00"

    def __missing__(self, text: str | None) -> bytes:
        if text is None:
            raise TypeError("None for a field that is never null")
        encoded = self._branch + encode_string(text)
        if len(self) < 4096:
            self[text] = encoded
        return encoded


def compile_payload(contract: Contract) -> Payload:
    """A function of the contract's fields after the envelope, by keyword, returning their Avro bytes.

    Times are whole milliseconds, dates days since 1970, arrays sequences of tuples in field order. A missing or
    unknown field is a TypeError. Raises ConfigurationError for an Avro type the generator can't write.
    """
    fields = contract.avro["fields"][len(ENVELOPE) :]
    scope: dict[str, Any] = {"_long": encode_long, "_string": encode_string, "_array": _encode_array}
    parts = [_expression(contract, field, scope) for field in fields]
    parameters = ", ".join(field["name"] for field in fields)
    # Field names were checked by load_contracts to be those of a schema in this repository.
    source = f"def payload(*, {parameters}):\n    return b''.join(({', '.join(parts)},))"
    exec(compile(source, f"<payload of {contract.entity}>", "exec"), scope)
    compiled: Payload = scope["payload"]
    return compiled


def _expression(contract: Contract, field: dict[str, Any], scope: dict[str, Any]) -> str:
    """The Python expression that encodes one field."""
    name, kind = field["name"], field["type"]
    if not name.isidentifier():
        raise ConfigurationError(f"contract {contract.entity}: field {name!r} is not a name")
    nullable = isinstance(kind, list)
    if nullable:
        if len(kind) != 2 or kind[0] != "null":
            raise ConfigurationError(f"contract {contract.entity}: field {name}: unions other than null and one type")
        kind = kind[1]
    avro_type = kind["type"] if isinstance(kind, dict) else kind
    if avro_type == "string" and (name in contract.accepted_values or nullable):
        scope[f"_known_{name}"] = _KnownStrings(b"\x02" if nullable else b"")
        return f"_known_{name}[{name}]"
    if avro_type == "array":
        scope[f"_item_{name}"] = _item_encoder(contract, name, kind["items"])
        expression = f"_array({name}, _item_{name})"
    else:
        expression = _scalar(contract, name, avro_type)
    return f"(b'\\x00' if {name} is None else b'\\x02' + {expression})" if nullable else expression


def _scalar(contract: Contract, name: str, avro_type: str) -> str:
    encoders = {
        "string": f"_string({name})",
        "int": f"_long({name})",
        "long": f"_long({name})",
        "boolean": f"(b'\\x01' if {name} else b'\\x00')",
    }
    if avro_type not in encoders:
        raise ConfigurationError(
            f"contract {contract.entity}: field {name} is of type {avro_type!r}, which the generator can't write; "
            f"add it to data_generator.encoding"
        )
    return encoders[avro_type]


def _item_encoder(contract: Contract, name: str, items: Any) -> Callable[[tuple[Any, ...]], bytes]:
    types = [field["type"] for field in items["fields"]] if isinstance(items, dict) and "fields" in items else [None]
    if any(kind not in ("int", "long") for kind in types):
        raise ConfigurationError(f"contract {contract.entity}: array {name} holds more than records of whole numbers")
    return lambda item: b"".join(map(encode_long, item))


def _encode_array(items: list[tuple[Any, ...]] | Encoded, item: Callable[[tuple[Any, ...]], bytes]) -> bytes:
    if isinstance(items, Encoded):
        return items
    if not items:
        return b"\x00"
    return encode_long(len(items)) + b"".join(map(item, items)) + b"\x00"


def identity(*parts: object) -> int:
    """60 bits that represent `parts` in every identifier derived from them."""
    return int.from_bytes(hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest(), "big") >> 4


def uuid_prefix(*parts: object) -> str:
    """The first 24 characters of a UUID of version 8 (RFC 9562); twelve hex digits of a number complete it."""
    bits = f"{identity(*parts):015x}"
    return f"{bits[:8]}-{bits[8:12]}-8{bits[12:15]}-8000-"


def compile_envelope(entity: str, source: str, run_id: str, producer_id: int) -> Envelope:
    """`envelope(seq, event_ts, produced_ts)` in Avro. The event id is a UUID fixed by run, producer, entity and seq."""
    # 0x48 is the length, 36, of the UUID that it starts.
    head = b"\x48" + uuid_prefix(run_id, producer_id, entity).encode()
    constant = encode_string(source) + encode_string(run_id) + encode_long(producer_id)
    low, high, short = _LOW_14, _HIGH, encode_long

    def envelope(seq: int, event_ts: int, produced_ts: int) -> bytes:
        event, produced = event_ts << 1, produced_ts << 1
        return b"%b%012x%b%b%b%b%b%b" % (
            head,
            seq,
            low[event & 16383],
            high[event >> 14],
            low[produced & 16383],
            high[produced >> 14],
            constant,
            short(seq),
        )

    return envelope


def event_id(entity: str, run_id: str, producer_id: int, seq: int) -> str:
    """The event id that `compile_envelope` writes."""
    return f"{uuid_prefix(run_id, producer_id, entity)}{seq:012x}"
