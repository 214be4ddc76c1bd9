"""The sends of a history in order: the n-th is the same in every process with the same plan.

It is `Model`, driven by days instead of a clock. Two things differ. `produced_ts` is the moment at which the backfill
began: by then all of it was due. And with few records an hour, slots lie minutes apart where a visitor takes
seconds: a step happens seconds after the visit's last one, an order's change soon after what led to it, and neither
later than the slot's own time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from data_generator.backfill.plan import Plan
from data_generator.entities.events import Visit
from data_generator.entities.orders import Order
from data_generator.model import Model, Send
from data_platform_core.contracts import BACKFILL_SOURCE, Contract


class HistoryModel(Model):
    """`Model` for the past."""

    source = BACKFILL_SOURCE

    def __init__(
        self,
        plan: Plan,
        contracts: Mapping[str, Contract],
        schema_ids: Mapping[str, int],
        run_id: str,
        producer_id: int,
        produced_ms: int,
    ) -> None:
        scenario = plan.scenario.scenario(plan.scale)
        super().__init__(scenario, contracts, schema_ids, run_id, producer_id)
        self._produced_ms = produced_ms
        self._gap_ms = scenario.funnel.step_gap_s * 1000
        # As many visits at once as the rate keeps going; with few records one after the other.
        self._visits_wanted = max(1, round(scenario.rate.high * scenario.funnel.step_gap_s))
        self._last_steps: dict[int, tuple[Visit, int]] = {}  # by id of a visit under way
        self._last_changes: dict[str, int] = {}  # event_ts by order under way

    def state(self) -> str:
        """A digest of the state that determines the next sends."""
        parts = (self._rng.getstate(), self._slot, [lane.next_seq for lane in self.lanes], len(self._follow_ups))
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _complete(self, index: int, key: bytes, payload: bytes, event_ts: int, produced_ts: int, injected: int) -> Send:
        return super()._complete(index, key, payload, event_ts, self._produced_ms, injected)

    def _step_ts(self, visit: Visit, due_ms: int) -> int:
        known = self._last_steps.get(id(visit))
        step = due_ms - visit.delay_ms
        if known:
            step = min(step, known[1] + int(self._gap_ms * (0.2 + 1.6 * self._random())))
        if visit.steps:
            self._last_steps[id(visit)] = (visit, step)
        else:
            self._last_steps.pop(id(visit), None)
            if visit.order:
                self._last_changes[visit.order.order_id] = step
        return step

    def _change_ts(self, order: Order, due_ms: int, final: bool) -> int:
        known = self._last_changes.pop(order.order_id, due_ms)
        change = min(due_ms, known + int(self._gap_ms * (0.1 + 2 * self._random())))
        if not final:
            self._last_changes[order.order_id] = change
        return change


class History:
    """All sends of a plan: first the reference data, then the days in order."""

    def __init__(self, plan: Plan, model: HistoryModel) -> None:
        self._plan, self._model = plan, model
        self.day = plan.first

    def catalogue(self) -> Iterator[Send]:
        """Products and customers as of the first day's beginning; to be acknowledged before what follows."""
        begin = datetime.combine(self._plan.first, time(), ZoneInfo(self._plan.scenario.curve.zone))
        return self._model.catalogue(int(begin.timestamp() * 1000))

    def traffic(self) -> Iterator[Send]:
        """Everything after the catalogue; `day` is the one under way."""
        plan, curve, deal = self._plan, self._plan.curve, self._model.next
        for number, count in enumerate(curve.counts(plan.first, plan.last)):
            self.day = plan.first + timedelta(days=number)
            for due_ms in curve.times(self.day, count):
                yield deal(due_ms)
