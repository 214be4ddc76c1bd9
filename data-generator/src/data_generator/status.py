"""Status of a run, for its display, its metrics and its parent process."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from data_generator.load.tally import merged
from data_platform_core.wire.ledger import PhaseCount

#: Phases of a run, in order.
LIFE = ("starting", "checking topics and registry", "sending catalogue", "ready", "sending", "settling", "done")


@dataclass
class Status:
    """Status of a run while it runs; rates are records/s, times seconds."""

    run_id: str
    scenario: str = ""
    phase: str = "starting"
    # Of the scenario: the phase that is due now, while sending, and all that there are.
    stage: str | None = None
    stages: tuple[str, ...] = ()
    target_rate: float | None = None
    duration_s: float | None = None
    planned: int | None = None
    started: float = field(default_factory=time.monotonic)
    sent: int = 0
    acked: int = 0
    failed: int = 0
    unknown: int = 0
    catalogue: int = 0
    buffered: int = 0
    behind_s: float = 0.0
    worst_behind_s: float = 0.0
    elapsed_s: float = 0.0
    achieved_rate: float = 0.0
    # At the end of a paced run.
    due: int | None = None
    phases: dict[str, PhaseCount] = field(default_factory=dict)


class Counts(NamedTuple):
    """One entity's sends so far."""

    entity: str
    sent: int
    acked: int
    failed: int
    unknown: int


class Observed(Protocol):
    """A run, or several runs displayed as one."""

    status: Status

    @property
    def counts(self) -> Sequence[Counts]: ...


def together(run_id: str, statuses: Sequence[Status]) -> Status:
    """The combined status of several producers: the phase is the earliest of all."""
    if not statuses:
        return Status(run_id)
    last = min(statuses, key=lambda status: LIFE.index(status.phase))
    rates = [status.target_rate for status in statuses if status.target_rate is not None]
    planned = [status.planned for status in statuses if status.planned is not None]
    due = [status.due for status in statuses if status.due is not None]
    return Status(
        run_id=run_id,
        scenario=last.scenario,
        phase=last.phase,
        stage=last.stage,
        stages=last.stages,
        target_rate=sum(rates) if rates else None,
        duration_s=last.duration_s,
        planned=sum(planned) if planned else None,
        sent=sum(status.sent for status in statuses),
        acked=sum(status.acked for status in statuses),
        failed=sum(status.failed for status in statuses),
        unknown=sum(status.unknown for status in statuses),
        catalogue=sum(status.catalogue for status in statuses),
        buffered=sum(status.buffered for status in statuses),
        behind_s=max(status.behind_s for status in statuses),
        worst_behind_s=max(status.worst_behind_s for status in statuses),
        elapsed_s=max(status.elapsed_s for status in statuses),
        achieved_rate=sum(status.achieved_rate for status in statuses),
        due=sum(due) if due else None,
        phases=merged(status.phases for status in statuses),
    )


def added(parts: Iterable[Sequence[Counts]]) -> list[Counts]:
    """Counts of several producers by entity, in the order of their first appearance."""
    sums: dict[str, list[int]] = {}
    for part in parts:
        for entity, *numbers in part:
            before = sums.setdefault(entity, [0] * len(numbers))
            sums[entity] = [one + other for one, other in zip(before, numbers, strict=True)]
    return [Counts(entity, *numbers) for entity, numbers in sums.items()]
