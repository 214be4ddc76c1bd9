"""The dead-letter envelope: the format of a record on `crm.<entity>.v1.dlq`.

Key and value are the original's, byte for byte. Both are null when they are too large to forward with headers (bronze
has the bytes). The headers:

- `dlq-reason`: a Reason; for CONTRACT with the check's name, as in `contract:has_lines`;
- `dlq-source`: `topic/partition/offset` of the original. It is the dead letter's identity: the topic is written at
  least once, so a reader counts distinct sources;
- `dlq-timestamp`: the original's Kafka timestamp, ms;
- `dlq-too-large`: the original's size in bytes, empty when key and value are present;
- ORIGIN_HEADER unchanged, empty when the record had none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from data_platform_core.wire.ledger import ORIGIN_HEADER, Origin, parse_origin

REASON_HEADER = "dlq-reason"
SOURCE_HEADER = "dlq-source"
TIMESTAMP_HEADER = "dlq-timestamp"
TOO_LARGE_HEADER = "dlq-too-large"
#: Key and value together, bytes. A producer's and a topic's limit is 1 MiB, headers included.
MAX_ORIGINAL_BYTES = 900_000


class Reason(StrEnum):
    NOT_AVRO_FRAMED = "not_avro_framed"
    UNKNOWN_SCHEMA_ID = "unknown_schema_id"
    UNDECODABLE = "undecodable"
    CONTRACT = "contract"  # followed by ":<check name>"


def contract_reason(check: str) -> str:
    """The reason of a record that breaks `check`."""
    return f"{Reason.CONTRACT.value}:{check}"


@dataclass(frozen=True, order=True)
class Source:
    """The coordinates of the original record."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Source:
        """The inverse of `str`. Raises ValueError."""
        topic, partition, offset = text.rsplit("/", 2)
        return cls(topic, int(partition), int(offset))


@dataclass(frozen=True)
class DeadLetter:
    """One distinct dead letter. `timestamp_ms` is the original's; `origin` is None for a foreign producer."""

    source: Source
    reason: str
    timestamp_ms: int
    origin: Origin | None
    key: bytes | None
    value: bytes | None


def parse(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]] | None) -> DeadLetter:
    """A dead letter from a Kafka message. Raises ValueError naming the header that is missing or malformed."""
    found = {name: content or b"" for name, content in headers or ()}
    for name in (REASON_HEADER, SOURCE_HEADER, TIMESTAMP_HEADER):
        if name not in found:
            raise ValueError(f"header {name} is missing")
    try:
        source = Source.parse(found[SOURCE_HEADER].decode())
    except ValueError:
        raise ValueError(f"header {SOURCE_HEADER} is {found[SOURCE_HEADER]!r}, not topic/partition/offset") from None
    try:
        timestamp_ms = int(found[TIMESTAMP_HEADER])
    except ValueError:
        raise ValueError(f"header {TIMESTAMP_HEADER} is {found[TIMESTAMP_HEADER]!r}, not milliseconds") from None
    reason = found[REASON_HEADER].decode(errors="replace")
    return DeadLetter(source, reason, timestamp_ms, parse_origin(found.get(ORIGIN_HEADER)), key, value)
