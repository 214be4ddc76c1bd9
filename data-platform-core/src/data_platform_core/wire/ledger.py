"""The format of the ledger: a producer's record of its sends, against which a run is reconciled.

Each send of a run has the next number of a sequence that is dense per (run, producer, entity). The number is in the
Kafka header ORIGIN_HEADER, so that even an undecodable record is attributed to its run. A deliberate duplicate has its
own number and repeats the bytes (and so the envelope's `event_id` and `seq`) of an earlier send.

In the ledger bucket, below `naming.ledger_prefix(run_id)`:

- `<producer_id>/<entity>/part-<n>.parquet`: rows of LEDGER_SCHEMA, one per settled send, written every few seconds, in
  no particular order. A row is written once its outcome is known and never changes. `ok`: the acknowledgement was
  received before the part was written; `digest`: of the bytes that were sent.
- `<producer_id>/summary-<n>.json`: a ProducerSummary, written before the first send, again ahead of need, and at the
  end; the highest number counts.

Each object is written once. The bucket keeps every version of an object, and a reader refuses an object with two. So
the producers' account can add evidence, but not replace it.

What a reader may conclude about send `seq` of a producer and entity:

- there is a row: it has the outcome;
- there is none and `finished` is true: it was never sent (the rows are exactly 0 .. sent-1, each once);
- there is none and `finished` is false: the producer is still running or was killed. Below `reserved` it may have
  been sent, so it counts as `info`; at or above `reserved` it was certainly not sent, because a producer raises the
  bound in the object store before it uses the numbers below it. `unsettled_below` gives this bound.

So after `kill -9` bronze is still contained in ok and info. Only the outcomes of the last few seconds are lost, never
those written before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pyarrow as pa
import xxhash
from pydantic import BaseModel, ConfigDict

from data_platform_core.errors import ConfigurationError

ORIGIN_HEADER = "crm-origin"
#: Maximum length of a run id in characters.
MAX_RUN_ID = 100
_RUN_ID = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_RUN_ID}}}")
_INT_END, _LONG_END = 1 << 31, 1 << 63
_SUMMARY = re.compile(r"(?:^|/)summary(?:-(\d+))?\.json$")


def check_run_id(run_id: str) -> str:
    """`run_id`; raises ConfigurationError if it can't be part of an object key, a header and a client id."""
    if not _RUN_ID.fullmatch(run_id) or set(run_id) <= {"."}:
        raise ConfigurationError(f"run id {run_id!r}: use 1 to {MAX_RUN_ID} characters of A-Z a-z 0-9 . _ -")
    return run_id


class Outcome(StrEnum):
    OK = "ok"  # acknowledged by all in-sync replicas
    FAIL = "fail"  # certainly not written
    INFO = "info"  # unknown: a timeout, or the producer ended before the answer arrived


class Injected(StrEnum):
    NONE = "none"
    DUPLICATE = "duplicate"  # the bytes of an earlier send again
    LATE = "late"  # event_ts further back than the contract allows
    POISON = "poison"  # can't be decoded, or breaks the contract


LEDGER_SCHEMA = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("injected", pa.string(), nullable=False),
        pa.field("partition", pa.int32()),  # null unless ok
        pa.field("offset", pa.int64()),  # null unless ok
        pa.field("digest", pa.uint64()),  # of key and value; null in ledgers from before it was kept
    ]
)

_xxh3 = xxhash.xxh3_64_intdigest


def record_digest(key: bytes, value: bytes) -> int:
    """XXH3-64 of a record's value, seeded with that of its key: 0.2 microseconds.

    It detects accidental changes: one in 2^64 goes unnoticed. It is not a signature (ADR 0015).
    """
    return _xxh3(value, _xxh3(key))


class PhaseCount(BaseModel):
    """A phase of a scenario: the number of records due, and the number acknowledged during it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    due: int
    acked: int


class ProducerSummary(BaseModel):
    """One producer's summary of a run. Times are UTC, ISO 8601; `sent` is by entity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    producer_id: int
    scenario: str
    seed: int
    started_at: str
    ended_at: str | None = None
    finished: bool = False
    sent: dict[str, int] = {}
    # By entity: numbers below it may have been used, numbers from it on were not (see the module's docstring).
    reserved: dict[str, int] = {}
    # The scenario's rate and the achieved rate, records per second.
    target_rate: float | None = None
    achieved_rate: float | None = None
    # At the end of a paced run: `due` is the number of scheduled records without the catalogue. If the sender was too
    # slow, `worst_behind_s` rises and `acked` stays below `due` in some phases.
    due: int | None = None
    worst_behind_s: float | None = None
    phases: dict[str, PhaseCount] = {}
    # State with which a killed producer resumes; internal to the producer.
    resume_from: dict[str, Any] | None = None


def unsettled_below(summary: ProducerSummary, entity: str) -> int:
    """Sends of `entity` with a number below this and no row in the ledger count as `info`; 0 after a clean end."""
    return 0 if summary.finished else summary.reserved.get(entity, 0)


def origin(run_id: str, producer_id: int, seq: int) -> bytes:
    """The header's value. A run id holds no '/': `check_run_id`."""
    return b"%s/%d/%d" % (run_id.encode(), producer_id, seq)


@dataclass(frozen=True)
class Origin:
    """Identifies a record's send: run, producer and number."""

    run_id: str
    producer_id: int
    seq: int


def parse_origin(header: bytes | None) -> Origin | None:
    """The inverse of `origin`; None if the header is absent or not ours."""
    try:
        run_id, producer_id, seq = (header or b"").decode().split("/")
        found = Origin(run_id, int(producer_id), int(seq))
    except ValueError:
        return None
    named = 1 <= len(run_id) <= MAX_RUN_ID and "\0" not in run_id
    return found if named and 0 <= found.producer_id < _INT_END and 0 <= found.seq < _LONG_END else None


def part_key(prefix: str, producer_id: int, entity: str, number: int) -> str:
    """Object key of a ledger part."""
    return f"{prefix}{producer_id}/{entity}/part-{number:06d}.parquet"


def summary_key(prefix: str, producer_id: int, number: int) -> str:
    """Object key of a producer's summary; numbers count from 1."""
    return f"{prefix}{producer_id}/summary-{number:06d}.json"


def summary_number(key: str) -> int:
    """The number in a summary's key, 0 for an old key without one; -1 for any other object of a ledger."""
    found = _SUMMARY.search(key)
    return int(found[1] or 0) if found else -1


def newest_summary(keys: Iterable[str]) -> str | None:
    """The key of the newest summary among one producer's objects; None if there is none."""
    newest = max(keys, key=summary_number, default=None)
    return newest if newest is not None and summary_number(newest) >= 0 else None
