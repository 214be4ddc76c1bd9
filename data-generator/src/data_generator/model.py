"""Generates the n-th send of a producer from (scenario, seed, producer) alone.

Statistical model
- There is a pool of active visits, of size nominal rate times the mean gap between a visitor's steps. Each slot
  picks a visit at random for its next step; a finished visit is replaced by a new one. Steps of one visit keep the
  order of `entities.events`; steps of different visits interleave.
- A purchase places an order in the next slot; later changes (paid, cancelled, refunded) are due some slots later.
- The scenario's `mix` gives slots to changes of products and profiles.
- The scenario's `inject` turns slots into duplicates (the bytes of one of the last RECENT good sends again, under a
  number of their own), late records (event_ts further back than the contract allows) and poison. Late and poison
  records are extra records without references to them, so that records missing in silver leave visits, orders and
  references intact.

Slots, not seconds, drive it: the clock only provides timestamps. The same seed generates the same records, except the
run id, the times, and the identifiers derived from the run id (event_id, session_id, order_id): a second run of a seed
must not be mistaken for re-sends of the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple, cast

from data_generator.distributions import Weighted
from data_generator.encoding import Envelope, Payload, compile_envelope, compile_payload, encode_string, event_id
from data_generator.entities import Draft, EntityMaker, load_maker
from data_generator.entities.events import Maker as EventMaker
from data_generator.entities.events import Visit
from data_generator.entities.orders import PLACED, Order
from data_generator.entities.orders import Maker as OrderMaker
from data_generator.scenario import VISITS, Scenario
from data_generator.wholesale import wholesale
from data_generator.world import World
from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError
from data_platform_core.wire.frame import FRAME_BYTES, frame
from data_platform_core.wire.ledger import Injected

SOURCE = "generator"
#: Duplicates repeat one of this many last good sends.
RECENT = 256
#: Limit of active visits (40 MB): unreachable rates must not fill the memory.
MOST_VISITS = 20_000
#: How much later than allowed a late record is, minutes; the least is far above any transport delay.
LATE_BY_MINUTES = (30, 240)
#: A schema id that no registry has assigned.
UNKNOWN_SCHEMA_ID = 2_000_000_000
NONE, DUPLICATE, LATE, POISON = range(4)
#: The ledger's value for each of the codes above.
INJECTED = (Injected.NONE, Injected.DUPLICATE, Injected.LATE, Injected.POISON)


class Send(NamedTuple):
    """One send: `lane` is the entity's index in `Model.lanes`, `injected` one of NONE, DUPLICATE, LATE, POISON."""

    lane: int
    seq: int
    key: bytes
    value: bytes
    injected: int


class Lane:
    """One entity's encoders and its next sequence number."""

    __slots__ = ("contract", "entity", "envelope", "frame", "late_after_ms", "maker", "next_seq", "payload")

    def __init__(self, contract: Contract, schema_id: int, maker: EntityMaker, envelope: Envelope) -> None:
        self.contract, self.entity, self.maker = contract, contract.entity, maker
        self.frame = frame(schema_id)
        self.envelope = envelope
        self.payload: Payload = compile_payload(contract)
        self.late_after_ms = contract.silver.allowed_lateness_minutes * 60_000
        self.next_seq = 0


class Model:
    """Generates sends. `schema_ids` has the registry's ids by entity."""

    #: Value of the envelope's `source`.
    source = SOURCE

    def __init__(
        self,
        scenario: Scenario,
        contracts: Mapping[str, Contract],
        schema_ids: Mapping[str, int],
        run_id: str,
        producer_id: int,
    ) -> None:
        self._scenario, self._run_id, self._producer_id = scenario, run_id, producer_id
        self.world = World(scenario, run_id, producer_id)
        self.lanes = [
            Lane(
                contract,
                schema_ids[entity],
                load_maker(entity, self.world),
                compile_envelope(entity, self.source, run_id, producer_id),
            )
            for entity, contract in contracts.items()
        ]
        self._index = {lane.entity: index for index, lane in enumerate(self.lanes)}
        self._rng = Random(f"{scenario.seed}/{producer_id}")
        self._random = self._rng.random
        self._mix = Weighted.of(scenario.mix)
        inject = scenario.inject
        self._duplicates_below = inject.duplicates
        self._late_below = inject.duplicates + inject.late
        self._poison_below = inject.duplicates + inject.late + inject.poison
        self._injected_into = Weighted.of(inject.by_entity) if inject.by_entity else None
        self._slot = 0
        self._recent: list[tuple[int, bytes, bytes]] = []
        self._follow_ups: list[tuple[int, int, Order, str]] = []
        self._visits: list[Visit] = []
        self._visits_wanted = min(MOST_VISITS, max(8, round(scenario.rate.high * scenario.funnel.step_gap_s)))
        self._poisoned = 0

    def catalogue(self, now_ms: int) -> Iterator[Send]:
        """Records that the traffic refers to; send them, and wait for acknowledgement, before it."""
        for index, lane in enumerate(self.lanes):
            for draft in lane.maker.initial():
                yield self._good(index, draft, now_ms, now_ms)

    def next(self, due_ms: int) -> Send:
        """The next send, due at `due_ms` (milliseconds since 1970), which becomes its produced_ts."""
        self._slot += 1
        uniform = self._random()
        if uniform < self._poison_below:
            if uniform < self._duplicates_below:
                if self._recent:
                    return self._duplicate()
            else:
                return self._late(due_ms) if uniform < self._late_below else self._poison(due_ms)
        if self._follow_ups and self._follow_ups[0][0] <= self._slot:
            return self._follow_up(due_ms)
        kind = self._mix.pick(self._random())
        if kind == VISITS:
            return self._visit_step(due_ms)
        index = self._index[kind]
        return self._good(index, self.lanes[index].maker.draw(self._rng), due_ms, due_ms)

    def flood(self, entity: str, lines: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Infinite (key, payload) of one entity, good records only; `Lane.envelope` completes each.

        `lines`: average number of lines per order. Raises ConfigurationError if that is impossible.
        """
        lane = self.lanes[self._index[entity]]
        if lines is None:
            return self._drawn(lane) if entity != "events" else self._visited(lane)
        if entity != "orders":
            raise ConfigurationError(f"--lines is {lines}, but {entity} have no lines; leave it out, or flood orders")
        return wholesale(self.world, lane.payload, lines, self._rng)

    def _drawn(self, lane: Lane) -> Iterator[tuple[bytes, bytes]]:
        while True:
            draft = lane.maker.draw(self._rng)
            yield draft.key, lane.payload(**draft.fields)

    def _visited(self, lane: Lane) -> Iterator[tuple[bytes, bytes]]:
        maker = cast(EventMaker, lane.maker)
        while True:
            visit = maker.plan_visit(lane.payload, None, self._rng)
            key = visit.key
            for payload in reversed(visit.steps):
                yield key, payload

    def _complete(self, index: int, key: bytes, payload: bytes, event_ts: int, produced_ts: int, injected: int) -> Send:
        lane = self.lanes[index]
        seq = lane.next_seq
        lane.next_seq = seq + 1
        return Send(index, seq, key, lane.frame + lane.envelope(seq, event_ts, produced_ts) + payload, injected)

    def _remember(self, send: Send) -> Send:
        if self._duplicates_below:
            if len(self._recent) < RECENT:
                self._recent.append((send.lane, send.key, send.value))
            else:
                self._recent[self._slot % RECENT] = (send.lane, send.key, send.value)
        return send

    def _good(self, index: int, draft: Draft, event_ts: int, produced_ts: int) -> Send:
        payload = self.lanes[index].payload(**draft.fields)
        return self._remember(self._complete(index, draft.key, payload, event_ts, produced_ts, NONE))

    def _visit_step(self, due_ms: int) -> Send:
        events = self._index["events"]
        lane = self.lanes[events]
        place = int(self._random() * self._visits_wanted)
        if place >= len(self._visits):
            place = len(self._visits)
            self._visits.append(self._new_visit(lane))
        visit = self._visits[place]
        payload = visit.steps.pop()
        send = self._complete(events, visit.key, payload, self._step_ts(visit, due_ms), due_ms, NONE)
        if not visit.steps:
            if visit.order:
                heappush(self._follow_ups, (self._slot + 1, self._slot, visit.order, PLACED))
            self._visits[place] = self._new_visit(lane)
        return self._remember(send)

    def _step_ts(self, visit: Visit, due_ms: int) -> int:
        """Time of the current step (event_ts)."""
        return due_ms - visit.delay_ms

    def _change_ts(self, order: Order, due_ms: int, final: bool) -> int:
        """Time of an order's change; `final` marks the last one."""
        return due_ms

    def _new_visit(self, lane: Lane) -> Visit:
        orders = cast(OrderMaker, self.lanes[self._index["orders"]].maker)
        return cast(EventMaker, lane.maker).plan_visit(lane.payload, orders, self._rng)

    def _follow_up(self, due_ms: int) -> Send:
        _, _, order, status = heappop(self._follow_ups)
        index = self._index["orders"]
        maker = cast(OrderMaker, self.lanes[index].maker)
        upcoming = maker.next_status(status, self._rng)
        if upcoming:
            later = self._slot + max(1, round(upcoming[1] * self._scenario.rate.high))
            heappush(self._follow_ups, (later, self._slot, order, upcoming[0]))
        event_ts = self._change_ts(order, due_ms, final=upcoming is None)
        return self._good(index, maker.draft(order, status), event_ts, due_ms)

    def _duplicate(self) -> Send:
        index, key, value = self._recent[int(self._random() * len(self._recent))]
        lane = self.lanes[index]
        seq = lane.next_seq
        lane.next_seq = seq + 1
        return Send(index, seq, key, value, DUPLICATE)

    def _victim(self) -> int:
        assert self._injected_into is not None  # the scenario's check
        return self._index[self._injected_into.pick(self._random())]

    def _late(self, due_ms: int) -> Send:
        index = self._victim()
        lane = self.lanes[index]
        draft = lane.maker.outdated(self._rng)
        minutes = self._rng.uniform(*LATE_BY_MINUTES)
        event_ts = due_ms - lane.late_after_ms - int(minutes * 60_000)
        return self._complete(index, draft.key, lane.payload(**draft.fields), event_ts, due_ms, LATE)

    def _poison(self, due_ms: int) -> Send:
        """Cycles through the kinds: truncated, wrong magic byte, unknown schema id, no UUID, then the entity's own."""
        index = self._victim()
        lane = self.lanes[index]
        draft = lane.maker.outdated(self._rng)
        kind = self._poisoned % 8
        self._poisoned += 1
        if kind >= 4:
            fields = self._rng.choice(lane.maker.breakages(draft.fields))
            return self._complete(index, draft.key, lane.payload(**fields), due_ms, due_ms, POISON)
        send = self._complete(index, draft.key, lane.payload(**draft.fields), due_ms, due_ms, POISON)
        value = send.value
        if kind == 0:
            value = value[: int(len(value) * (0.2 + 0.7 * self._random()))]
        elif kind == 1:
            value = b"\x01" + value[1:]
        elif kind == 2:
            value = frame(UNKNOWN_SCHEMA_ID) + value[FRAME_BYTES:]
        else:
            uuid = event_id(lane.entity, self._run_id, self._producer_id, send.seq)
            value = value.replace(encode_string(uuid), encode_string(f"broken-{send.seq}"), 1)
        return send._replace(value=value)
