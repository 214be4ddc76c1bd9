"""A1-A4 and A6 as pure functions of small tables: no I/O, so that each can be shown a world that breaks it.

Shapes (pyarrow tables; one entity each, nulls only where said):

- `Ledger.rows`: producer_id, seq, outcome, injected, partition (null unless ok), offset (null unless ok);
- bronze of a run: producer_id, seq (both null when the header was unreadable), partition, offset, key;
- silver of a run: producer_id, seq, kafka_partition, kafka_offset, is_late, event_id, kafka_ts.

Each function returns violations; an empty list means that the equation holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_platform_core.accounting.verdict import (
    EXAMPLES,
    Longs,
    Violation,
    halves,
    lookup,
    pack,
    place,
    repeated,
    send,
    unpack,
    violations,
)
from data_platform_core.wire.ledger import Injected, Outcome


@dataclass(frozen=True)
class Ledger:
    """What the producers of a run say of one entity.

    `sent` is the number of sends by producer that ended cleanly; `unsettled` the bound, by producer that did not,
    below which a send without a row may have happened.
    """

    topic: str
    rows: pa.Table
    sent: Mapping[int, int] = field(default_factory=dict)
    unsettled: Mapping[int, int] = field(default_factory=dict)

    @property
    def sends(self) -> Longs:
        return pack(longs(self.rows["producer_id"]), longs(self.rows["seq"]))

    def of(self, outcome: Outcome) -> pa.Table:
        return self.rows.filter(pc.equal(self.rows["outcome"], outcome.value))

    def injected(self, kind: Injected) -> Longs:
        """The sends that were made wrong on purpose."""
        rows = self.rows.filter(pc.equal(self.rows["injected"], kind.value))
        return pack(longs(rows["producer_id"]), longs(rows["seq"]))


def longs(column: pa.ChunkedArray, null: int = -1) -> Longs:
    """A column of whole numbers as int64."""
    return np.asarray(pc.fill_null(column.cast(pa.int64()), null).to_numpy(), dtype=np.int64)


def sends_of(rows: pa.Table) -> Longs:
    """Packed (producer, seq) of each row."""
    return pack(longs(rows["producer_id"]), longs(rows["seq"]))


def positions_of(rows: pa.Table, prefix: str = "") -> Longs:
    """Packed (partition, offset) of each row; silver's columns have the prefix `kafka_`."""
    return pack(longs(rows[f"{prefix}partition"]), longs(rows[f"{prefix}offset"]))


def a1_no_loss(ledger: Ledger, bronze: pa.Table) -> list[Violation]:
    """Every acknowledged send is in bronze, where the broker said; and the ledger itself has no hole."""
    acknowledged = ledger.of(Outcome.OK)
    sends, places = sends_of(acknowledged), positions_of(acknowledged)
    found = sends_of(bronze)
    present = np.isin(sends, found)
    at = lookup(positions_of(bronze), places)
    in_place = (at >= 0) & (found[at] == sends if len(found) else False)
    name = place(ledger.topic)
    return [
        *_holes(ledger),
        *violations("acknowledged but not in bronze", places[~present], name),
        *violations("in bronze elsewhere than acknowledged", places[present & ~in_place], name),
    ]


def _holes(ledger: Ledger) -> list[Violation]:
    found = ledger.sends
    expected = [pack(np.full(count, p), np.arange(count)) for p, count in ledger.sent.items()]
    wanted = np.concatenate(expected) if expected else np.empty(0, dtype=np.int64)
    closed = found[np.isin(halves(found)[0], list(ledger.sent))]
    return [
        *violations("sends without a row in the ledger", np.setdiff1d(wanted, found), send),
        *violations("ledger rows above the number sent", np.setdiff1d(closed, wanted), send),
        *violations("sends with two rows in the ledger", repeated(found), send),
    ]


def a2_no_invention(ledger: Ledger, bronze: pa.Table) -> list[Violation]:
    """Everything in bronze was sent: acknowledged or of unknown outcome, and each send once."""
    sends = sends_of(bronze)
    numbered = longs(bronze["seq"]) >= 0
    failed = sends_of(ledger.of(Outcome.FAIL))
    unknown = numbered & ~np.isin(sends, ledger.sends)
    for producer, bound in ledger.unsettled.items():
        unknown &= ~((longs(bronze["producer_id"]) == producer) & (longs(bronze["seq"]) < bound))
    places = positions_of(bronze)
    return [
        *violations("in bronze that no producer sent", places[unknown], place(ledger.topic)),
        *violations("in bronze without a send number", places[~numbered], place(ledger.topic)),
        *violations("in bronze whose send failed", places[np.isin(sends, failed)], place(ledger.topic)),
        *violations("sends that are in bronze more than once", repeated(sends[numbered]), send),
    ]


def a3_offsets(
    topic: str,
    positions: Longs,
    kept: Mapping[int, tuple[int, int]],
    ends_after: Mapping[int, int] | None = None,
    undelivered: Iterable[tuple[int, int, int]] = (),
) -> list[Violation]:
    """Each offset of the topic is in bronze once. Covers every run.

    `positions` are all of bronze's; `kept` is, by partition, the first offset the topic still has and its end, both
    from before bronze was read; `ends_after` the ends from after it, so that a stream under way is no violation.
    `undelivered` are those of `offset_gaps`, or parts of them, that no consumer receives: ends of transactions,
    and records of aborted ones.
    """
    ends_after = ends_after or {partition: end for partition, (_, end) in kept.items()}
    found = violations("offsets that are in bronze more than once", repeated(positions), place(topic))
    partitions, offsets = halves(positions)
    limit = np.zeros(len(positions), dtype=np.int64)
    for partition, end in ends_after.items():
        limit[partitions == partition] = end
    found += violations("in bronze beyond the topic's end", positions[offsets >= limit], place(topic))
    gaps = _without(offset_gaps(positions, kept), undelivered)
    if gaps:
        missing = sum(last - first + 1 for _, first, last in gaps)
        examples = tuple(
            f"{topic}/{partition}/{first}" + (f"..{last}" if last > first else "")
            for partition, first, last in gaps[:EXAMPLES]
        )
        found.append(Violation("offsets missing in bronze", missing, examples))
    return found


def offset_gaps(positions: Longs, kept: Mapping[int, tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Runs (partition, first, last) of offsets that are in `kept` and not among `positions`, in order."""
    partitions, offsets = halves(positions)
    return [
        (partition, first, last)
        for partition, (start, end) in sorted(kept.items())
        for first, last in _gaps(np.unique(offsets[partitions == partition]), start, end)
    ]


def _without(gaps: Iterable[tuple[int, int, int]], parts: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """`gaps` less `parts`, which lie inside them and do not overlap."""
    left: list[tuple[int, int, int]] = []
    inside = sorted(parts)
    for partition, first, last in gaps:
        position = first
        for _, begin, end in (part for part in inside if part[0] == partition and first <= part[1] <= last):
            if begin > position:
                left.append((partition, position, begin - 1))
            position = end + 1
        if position <= last:
            left.append((partition, position, last))
    return left


def _gaps(offsets: Longs, start: int, end: int) -> list[tuple[int, int]]:
    """Runs (first, last) missing from sorted distinct `offsets`, from the first that must be there up to `end`."""
    # Bronze may begin before what retention has left: from its first offset on it must be without a gap.
    first = min(start, int(offsets[0])) if len(offsets) else start
    inside = offsets[offsets < end]
    fence = np.concatenate([[first - 1], inside, [max(end, first)]])
    wide = np.flatnonzero(np.diff(fence) > 1)
    return [(int(fence[i]) + 1, int(fence[i + 1]) - 1) for i in wide]


#: Not a position: the last offset of a partition that does not exist.
NOWHERE = -1


@dataclass(frozen=True)
class Layers:
    """Where the records of a run and entity came to lie; positions are packed (partition, offset)."""

    bronze: pa.Table
    silver: pa.Table
    silver_positions: Longs  # of every run
    bronze_positions: Longs  # of every run
    dlq_positions: Longs  # of the run
    #: Of what is in neither silver nor DLQ and decodes: its position, and where silver has its event_id (-1: nowhere).
    repeats: Mapping[int, int] = field(default_factory=dict)
    dedup_window_ms: int = 0


def landed_marks(bronze: Longs, ledger: Ledger) -> dict[int, tuple[int, int]]:
    """First number and end, by partition below 0: what came by files is dense from 0 on, of this run up to its last."""
    marks: dict[int, tuple[int, int]] = {}
    for positions in (bronze, positions_of(ledger.of(Outcome.OK))):
        partitions, offsets = halves(positions)
        for partition in np.unique(partitions[partitions < 0]).tolist():
            end = int(offsets[partitions == partition].max()) + 1
            marks[partition] = (0, max(end, marks.get(partition, (0, 0))[1]))
    return marks


def unplaced(bronze: pa.Table, silver_positions: Longs, dlq_positions: Longs) -> Longs:
    """Positions of a run's bronze rows that are in neither silver nor DLQ: duplicates, or lost."""
    positions = positions_of(bronze)
    return positions[~np.isin(positions, silver_positions) & ~np.isin(positions, dlq_positions)]


def a4_conservation(ledger: Ledger, layers: Layers) -> list[Violation]:
    """bronze = silver + late + DLQ + duplicates, all disjoint, and each record where its nature puts it."""
    bronze = positions_of(layers.bronze)
    silver, dead = positions_of(layers.silver, "kafka_"), layers.dlq_positions
    every = layers.silver_positions
    left = unplaced(layers.bronze, layers.silver_positions, dead)
    lost = np.array([p for p in left.tolist() if not _is_repeat(p, layers.repeats.get(p, -1))], dtype=np.int64)
    name = place(ledger.topic)
    return [
        *violations("in bronze but neither silver, DLQ nor a duplicate", lost, name),
        *violations("in both silver and DLQ", np.intersect1d(every, dead), name),
        *violations(
            "in silver but not in bronze", np.setdiff1d(layers.silver_positions, layers.bronze_positions), name
        ),
        *violations("in the DLQ but not in bronze", np.setdiff1d(dead, bronze), name),
        *violations("in silver more than once", repeated(every), name),
        *violations("in silver under another run", _of_another_run(layers, bronze, silver), name),
        *_same_event_twice(layers),
        *_wrong_nature(ledger, layers),
    ]


def _is_repeat(position: int, original: int) -> bool:
    """A duplicate is a record whose event silver took from elsewhere: earlier, when both are of one partition."""
    if original in (NOWHERE, position):
        return False
    return unpack(original)[0] != unpack(position)[0] or original < position


def _of_another_run(layers: Layers, bronze: Longs, silver: Longs) -> Longs:
    return np.setxor1d(np.intersect1d(layers.silver_positions, bronze), silver)


def _same_event_twice(layers: Layers) -> list[Violation]:
    """Silver took a record twice although the second came within the contract's window."""
    counts = pc.value_counts(layers.silver["event_id"].combine_chunks())
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if not len(twice):
        return []
    rows = layers.silver.filter(pc.is_in(layers.silver["event_id"], value_set=twice))
    times = rows.group_by("event_id").aggregate([("kafka_ts", "min"), ("kafka_ts", "max")])
    apart = pc.subtract(times["kafka_ts_max"].cast(pa.timestamp("ms")), times["kafka_ts_min"].cast(pa.timestamp("ms")))
    soon = times.filter(pc.less_equal(apart.cast(pa.int64()), layers.dedup_window_ms))["event_id"].to_pylist()
    if not soon:
        return []
    return [Violation("event_ids that silver has more than once", len(soon), tuple(sorted(soon)[:EXAMPLES]))]


def _wrong_nature(ledger: Ledger, layers: Layers) -> list[Violation]:
    """The producer knows what it sent: poison belongs into the DLQ and nothing else does; late is marked late."""
    sends, bronze = sends_of(layers.bronze), positions_of(layers.bronze)
    poison = np.isin(sends, ledger.injected(Injected.POISON))
    # Of a send without a row in the ledger (a killed producer) the nature is not known.
    known = np.isin(sends, ledger.sends)
    dead = np.isin(bronze, layers.dlq_positions)
    silver = positions_of(layers.silver, "kafka_")
    in_silver = np.isin(bronze, silver)
    on_time = silver[~np.asarray(layers.silver["is_late"].to_numpy(), dtype=bool)]
    late = np.isin(sends, ledger.injected(Injected.LATE))
    name = place(ledger.topic)
    return [
        *violations("poison records in silver", bronze[poison & in_silver], name),
        *violations("good records in the DLQ", bronze[known & ~poison & dead], name),
        *violations("late records not marked late", bronze[late & np.isin(bronze, on_time)], name),
        *violations("rows of silver that hold another record's send", _mixed_up(ledger, layers), name),
    ]


def _mixed_up(ledger: Ledger, layers: Layers) -> Longs:
    """Silver's envelope names another send than the header; right only for a duplicate whose original never arrived."""
    silver = positions_of(layers.silver, "kafka_")
    at = lookup(positions_of(layers.bronze), silver)
    there = at >= 0
    headers = sends_of(layers.bronze)[at[there]]
    differs = headers != sends_of(layers.silver)[there]
    return silver[there][differs & ~np.isin(headers, ledger.injected(Injected.DUPLICATE))]


def a6_order(topic: str, bronze: pa.Table) -> list[Violation]:
    """Per partition, key and producer the send number rises with the offset."""
    if not len(bronze):
        return []
    keys = longs(pc.dictionary_encode(bronze["key"].combine_chunks(), null_encoding="encode").indices)
    partition, offset = longs(bronze["partition"]), longs(bronze["offset"])
    producer, seq = longs(bronze["producer_id"]), longs(bronze["seq"])
    order = np.lexsort((offset, producer, keys, partition))
    same = np.ones(len(order) - 1, dtype=bool)
    for column in (partition, keys, producer):
        same &= np.diff(column[order]) == 0
    backwards = np.flatnonzero(same & (np.diff(seq[order]) < 0)) + 1
    return violations(
        "records that overtook an earlier one of their key", positions_of(bronze)[order][backwards], place(topic)
    )
