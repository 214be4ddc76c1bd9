"""Records due and records acknowledged in each phase of a scenario."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from data_generator.load.shapes import Shape, Share, due_by, phase_at
from data_platform_core.wire.ledger import PhaseCount

#: A sender that was behind by more than this, seconds, has missed its schedule. Pauses of a busy machine are shorter.
BEHIND_S = 1.0
#: A phase of at least this many seconds also missed its schedule if less than this share was acknowledged: the rest
#: waits in the producer's buffer, even if it was queued on time.
JUDGED_S = 5.0
ENOUGH = 0.9


class Tally:
    """Counts by phase for one sender of a shape."""

    def __init__(self, shape: Shape, duration_s: float | None, share: Share) -> None:
        self._shape, self._duration_s, self._share = shape, duration_s, share
        self._acked = dict.fromkeys(shape.phases, 0)
        self._before = 0

    def mark(self, elapsed_s: float, acked: int) -> None:
        """`acked` records in all at `elapsed_s`; to be called at least every few hundredths of a second."""
        if self._duration_s is None or elapsed_s < self._duration_s:
            self._acked[phase_at(self._shape, elapsed_s)] += acked - self._before
        self._before = acked

    def phases(self, elapsed_s: float) -> dict[str, PhaseCount]:
        """Those that have begun, up to `elapsed_s`."""
        now = elapsed_s if self._duration_s is None else min(elapsed_s, self._duration_s)
        found = {}
        for name, (begin, planned_end) in zip(self._shape.phases, pairwise((0.0, *self._shape.ends)), strict=True):
            end = min(planned_end, now)
            if begin < end:
                due = due_by(self._shape, end, self._share) - due_by(self._shape, begin, self._share)
                found[name] = PhaseCount(seconds=round(end - begin, 3), due=due, acked=self._acked[name])
        return found


def merged(parts: Iterable[dict[str, PhaseCount]]) -> dict[str, PhaseCount]:
    """The phases of senders that shared a shape, as if they had been one."""
    whole: dict[str, PhaseCount] = {}
    for part in parts:
        for name, count in part.items():
            other = whole.get(name)
            whole[name] = (
                PhaseCount(
                    seconds=max(count.seconds, other.seconds),
                    due=count.due + other.due,
                    acked=count.acked + other.acked,
                )
                if other
                else count
            )
    return whole


def shortfall(phases: dict[str, PhaseCount], worst_behind_s: float) -> str | None:
    """One line if the schedule was missed: requested rate, achieved rate, seconds behind. None if it was met."""
    short = [name for name, count in phases.items() if count.seconds >= JUDGED_S and count.acked < ENOUGH * count.due]
    if worst_behind_s <= BEHIND_S and not short:
        return None
    measurable = [name for name, count in phases.items() if count.due and count.seconds]
    if not measurable:
        return None
    worst = min(short or measurable, key=lambda name: phases[name].acked / phases[name].due)
    count = phases[worst]
    asked, got = count.due / count.seconds, count.acked / count.seconds
    return (
        f"behind schedule: phase {worst} asked for {asked:,.0f} records/s over {count.seconds:,.1f} s "
        f"and got {got:,.0f} records/s acknowledged; at worst {worst_behind_s:.1f} s late. "
        f"Each record is dated when it was due"
    )
