"""Progress of a backfill: written with the summary, after a chunk's records are acknowledged and their rows written."""

from __future__ import annotations

from pydantic import Field, ValidationError

from data_generator.backfill.plan import Plan
from data_generator.scenario import Strict
from data_platform_core.errors import ConfigurationError
from data_platform_core.wire.ledger import ProducerSummary

#: By entity and partition: an offset.
Offsets = dict[str, dict[int, int]]


class Mark(Strict):
    """All sends before number `sends` are settled; the next chunk is in progress, or was when the process died.

    `chunks` are finished; `next_seq` by entity; records of the unfinished chunk are at `ends` or above; `state` is the
    model's digest. `landing` numbers a run that goes straight to the lake.
    """

    plan: Plan
    produced_ms: int
    chunks: int = 0
    sends: int = 0
    next_seq: dict[str, int] = Field(default_factory=dict)
    ends: Offsets = Field(default_factory=dict)
    state: str = ""
    landing: int | None = None


def mark_of(summary: ProducerSummary | None, run_id: str) -> Mark:
    """The mark of a run. Raises ConfigurationError if there is none to resume from."""
    if summary is None:
        raise ConfigurationError(f"run {run_id!r} never began: nothing to resume; leave out --resume to start it")
    if summary.resume_from is None:
        raise ConfigurationError(f"run {run_id!r} is of scenario {summary.scenario!r}, which can't be resumed")
    try:
        return Mark.model_validate(summary.resume_from)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigurationError(
            f"run {run_id!r}: its progress mark is of another version of the generator ({where}: {first['msg']}); "
            "resume it with that version"
        ) from None
