"""Records whose bytes, key or headers are at their limits, regardless of the contract's rules for values."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from avro_wire import FRAME, MAGIC, framed
from oracle import Record

from data_platform_core.contracts import Contract
from data_platform_core.wire.ledger import ORIGIN_HEADER

Headers = tuple[tuple[str, bytes | None], ...]

_GOOD: frozenset[str] = frozenset()
_NOT_FRAMED = frozenset({"not_avro_framed"})
_UNKNOWN_ID = frozenset({"unknown_schema_id"})
_UNDECODABLE = frozenset({"undecodable"})
#: A producer's limit is 1,000,000 bytes with the header.
_LARGEST = 990_000
_LONG = 2**62


@dataclass(frozen=True)
class Arrived:
    """Key and value as they are sent; `reasons` are those a dead letter may have, empty for a good record.

    `headers` None stands for the origin header of the run; else they are sent as they are.
    """

    label: str
    key: bytes | None
    value: bytes | None
    reasons: frozenset[str]
    headers: Headers | None = None


def arrivals(
    contract: Contract, own: Iterator[Record], strangers: Iterator[Record], schema_id: int, others: Mapping[str, int]
) -> Iterator[Arrived]:
    """Each kind once. `own` are good records of the run, `strangers` of no run, each its own event.

    `others` are the ids of other subjects' schemas.
    """

    def good() -> bytes:
        return framed(contract.avro, schema_id, next(own))

    for label, key in (("null", None), ("empty", b""), ("huge", b"k" * 300_000), ("other", b"\xff\x00other")):
        yield Arrived(f"key {label}", key, good(), _GOOD)
    yield Arrived("null key and value", None, None, _NOT_FRAMED)
    for value in (None, b"", b"\x00", good()[:5], b"{}", b"\x01" + good()[1:], b"\xff" + good()[1:]):
        yield Arrived(f"value {value[:12] if value is not None else None!r}", b"1", value, _NOT_FRAMED)
    for number in (0, 2**31 - 1, 2**32 - 1, *others.values()):
        yield Arrived(f"schema id {number}", b"1", FRAME.pack(MAGIC, number) + good()[5:], _UNKNOWN_ID)
    yield Arrived("garbage of a megabyte", b"1", random.Random(1).randbytes(_LARGEST), _NOT_FRAMED)
    yield from (Arrived(f"body: {label}", b"1", value, _UNDECODABLE) for label, value in _bodies(good(), schema_id))
    for size in (1, 100, 500_000, _LARGEST - 10_000):
        yield Arrived(f"{size} bytes after the body", b"1", good() + b"\x00" * size, _GOOD)
    for label, headers in _headers():
        stranger = framed(contract.avro, schema_id, next(strangers))
        yield Arrived(f"origin {label}", b"1", stranger, _GOOD, headers)


def _bodies(good: bytes, schema_id: int) -> Iterator[tuple[str, bytes]]:
    frame, body = FRAME.pack(MAGIC, schema_id), good[5:]
    for cut in (1, len(body) // 2, len(body) - 1):
        yield f"cut after {cut}", frame + body[:cut]
    for label, length in (("negative", -1), ("2 GB", 2**31), ("beyond a long", _LONG), ("least", -(2**63))):
        yield f"a string of {label}", frame + _varint(length) + body[1:]
    yield "a varint without end", frame + b"\xff" * 40


def _varint(number: int) -> bytes:
    zigzag = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes((*out, zigzag))


def _headers() -> Iterator[tuple[str, Headers]]:
    yield "none", ()
    values: dict[str, bytes | None] = {
        "null": None, "empty": b"", "no UTF-8": b"\xff\xfe/0/0", "NUL": b"a\0b/0/0", "no numbers": b"foreign",
        "words": b"foreign/x/y", "too many parts": b"a/b/0/0", "no run": b"/0/0", "negative": b"foreign/-1/-1",
        "beyond a long": b"foreign/0/99999999999999999999", "beyond an int": b"foreign/2147483648/0",
        "huge": b"r" * 200_000 + b"/0/0", "Unicode": "\u202e\U0001d518\u0301/0/0".encode(), "quotes": b"'\"\\/0/0",
        "the ends": b"foreign/2147483647/9223372036854775807",
    }  # fmt: skip
    for label, value in values.items():
        yield label, ((ORIGIN_HEADER, value),)
    yield "twice", ((ORIGIN_HEADER, b"foreign/0/1"), (ORIGIN_HEADER, b"another/0/1"))
    yield "beside others", (("", b""), ("x" * 1000, None), (ORIGIN_HEADER, b"foreign/0/2"), ("\u202e", b"\xff"))


def fuzzed(bodies: Iterator[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Good records with some bytes of their bodies changed: they may decode or not."""
    rng = random.Random(seed)
    for _ in range(count):
        body = bytearray(next(bodies))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(5, len(body))
            body[at] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        yield bytes(body)
