"""A1-A4 and A6: a small world in which they hold, and each way to break it that they must catch.

The world: one producer sends 8 records of `orders` into two partitions. Of these, seq 5 repeats seq 1 (duplicate),
seq 6 is poison and seq 7 is late; all are acknowledged, and all are where they belong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_platform_core.accounting.equations import (
    NOWHERE,
    Layers,
    Ledger,
    a1_no_loss,
    a2_no_invention,
    a3_offsets,
    a4_conservation,
    a6_order,
    landed_marks,
    offset_gaps,
    positions_of,
    unplaced,
)
from data_platform_core.accounting.verdict import Longs, Violation, pack

pytestmark = pytest.mark.unit

TOPIC = "crm.orders.v1"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
Row = dict[str, Any]

#: seq, partition, offset, key, injected
SENT = [
    (0, 0, 10, b"a", "none"),
    (1, 1, 20, b"b", "none"),
    (2, 0, 11, b"c", "none"),
    (3, 1, 21, b"b", "none"),
    (4, 0, 12, b"a", "none"),
    (5, 1, 22, b"b", "duplicate"),
    (6, 0, 13, b"a", "poison"),
    (7, 1, 23, b"d", "late"),
]
KEPT = {0: (10, 14), 1: (20, 24)}


def at(partition: int, offset: int) -> int:
    return int(pack(np.array([partition]), np.array([offset]))[0])


def longs(*positions: int) -> Longs:
    return np.array(positions, dtype=np.int64)


def ledger_rows() -> list[Row]:
    return [
        {"producer_id": 0, "seq": s, "outcome": "ok", "injected": i, "partition": p, "offset": o}
        for s, p, o, _, i in SENT
    ]


def bronze_rows() -> list[Row]:
    return [{"producer_id": 0, "seq": s, "partition": p, "offset": o, "key": k} for s, p, o, k, _ in SENT]


def silver_rows() -> list[Row]:
    return [
        {
            "producer_id": 0,
            "seq": s,
            "kafka_partition": p,
            "kafka_offset": o,
            "kafka_ts": NOON + timedelta(seconds=s),
            "is_late": injected == "late",
            "event_id": f"e{s}",
        }
        for s, p, o, _, injected in SENT
        if injected in ("none", "late")
    ]


def ledger(rows: Sequence[Row] | None = None, **changes: Any) -> Ledger:
    schema = pa.schema(
        [("producer_id", pa.int32()), ("seq", pa.int64()), ("outcome", pa.string()), ("injected", pa.string()),
         ("partition", pa.int32()), ("offset", pa.int64())]
    )  # fmt: skip
    table = pa.Table.from_pylist(list(ledger_rows() if rows is None else rows), schema)
    return replace(Ledger(TOPIC, table, sent={0: 8}), **changes)


def bronze(rows: Sequence[Row] | None = None) -> pa.Table:
    schema = pa.schema(
        [("producer_id", pa.int32()), ("seq", pa.int64()), ("partition", pa.int32()), ("offset", pa.int64()),
         ("key", pa.binary())]
    )  # fmt: skip
    return pa.Table.from_pylist(list(bronze_rows() if rows is None else rows), schema)


def silver(rows: Sequence[Row] | None = None) -> pa.Table:
    schema = pa.schema(
        [("producer_id", pa.int32()), ("seq", pa.int64()), ("kafka_partition", pa.int32()),
         ("kafka_offset", pa.int64()), ("kafka_ts", pa.timestamp("us", tz="UTC")), ("is_late", pa.bool_()),
         ("event_id", pa.string())]
    )  # fmt: skip
    return pa.Table.from_pylist(list(silver_rows() if rows is None else rows), schema)


def layers(
    bronze_: pa.Table | None = None, silver_: pa.Table | None = None, dead: Longs | None = None, **changes: Any
) -> Layers:
    """The world's layers, with one of them replaced; positions follow the tables."""
    bronze_ = bronze() if bronze_ is None else bronze_
    silver_ = silver() if silver_ is None else silver_
    whole = Layers(
        bronze=bronze_,
        silver=silver_,
        silver_positions=positions_of(silver_, "kafka_"),
        bronze_positions=positions_of(bronze_),
        dlq_positions=longs(at(0, 13)) if dead is None else dead,
        repeats={at(1, 22): at(1, 20)},
        dedup_window_ms=3_600_000,
    )
    return replace(whole, **changes)


def without(rows: list[Row], seq: int) -> list[Row]:
    return [row for row in rows if row["seq"] != seq]


def changed(rows: list[Row], seq: int, **values: Any) -> list[Row]:
    return [{**row, **values} if row["seq"] == seq else row for row in rows]


def only(found: list[Violation], what: str, *examples: str) -> None:
    """Exactly one violation, of that wording and with these examples."""
    assert [violation.what for violation in found] == [what]
    assert found[0].count == len(examples)
    assert found[0].examples == examples


class TestNoLoss:
    def test_holds_when_every_acknowledged_send_is_in_bronze(self) -> None:
        assert a1_no_loss(ledger(), bronze()) == []

    def test_holds_for_a_run_that_sent_nothing(self) -> None:
        assert a1_no_loss(ledger([], sent={0: 0}), bronze([])) == []

    def test_catches_a_lost_record(self) -> None:
        found = a1_no_loss(ledger(), bronze(without(bronze_rows(), 2)))
        only(found, "acknowledged but not in bronze", f"{TOPIC}/0/11")

    def test_catches_an_empty_bronze_and_shows_five(self) -> None:
        (found,) = a1_no_loss(ledger(), bronze([]))
        assert (found.count, len(found.examples)) == (8, 5)

    def test_catches_a_record_that_is_not_where_the_broker_put_it(self) -> None:
        found = a1_no_loss(ledger(), bronze(changed(bronze_rows(), 2, offset=99)))
        only(found, "in bronze elsewhere than acknowledged", f"{TOPIC}/0/11")

    def test_catches_two_records_that_changed_places(self) -> None:
        rows = changed(changed(bronze_rows(), 0, offset=11), 2, offset=10)
        found = a1_no_loss(ledger(), bronze(rows))
        only(found, "in bronze elsewhere than acknowledged", f"{TOPIC}/0/10", f"{TOPIC}/0/11")

    def test_does_not_ask_for_a_send_of_unknown_outcome(self) -> None:
        rows = changed(ledger_rows(), 2, outcome="info", partition=None, offset=None)
        assert a1_no_loss(ledger(rows), bronze(without(bronze_rows(), 2))) == []

    def test_catches_a_hole_in_the_ledger_itself(self) -> None:
        found = a1_no_loss(ledger(without(ledger_rows(), 3)), bronze())
        only(found, "sends without a row in the ledger", "producer 0 seq 3")

    def test_catches_a_send_that_has_two_rows(self) -> None:
        found = a1_no_loss(ledger([*ledger_rows(), ledger_rows()[4]]), bronze())
        only(found, "sends with two rows in the ledger", "producer 0 seq 4")

    def test_catches_rows_beyond_the_number_sent(self) -> None:
        found = a1_no_loss(ledger(sent={0: 7}), bronze())
        only(found, "ledger rows above the number sent", "producer 0 seq 7")

    def test_a_killed_producers_ledger_may_have_holes(self) -> None:
        assert a1_no_loss(ledger(without(ledger_rows(), 3), sent={}, unsettled={0: 20}), bronze()) == []


class TestNoInvention:
    def test_holds_when_everything_in_bronze_was_sent(self) -> None:
        assert a2_no_invention(ledger(), bronze()) == []

    def test_catches_an_invented_record(self) -> None:
        found = a2_no_invention(ledger(), bronze([*bronze_rows(), {**bronze_rows()[0], "seq": 900, "offset": 14}]))
        only(found, "in bronze that no producer sent", f"{TOPIC}/0/14")

    def test_catches_a_record_of_a_producer_that_does_not_exist(self) -> None:
        found = a2_no_invention(ledger(), bronze(changed(bronze_rows(), 4, producer_id=9)))
        only(found, "in bronze that no producer sent", f"{TOPIC}/0/12")

    def test_catches_a_record_of_the_run_without_a_number(self) -> None:
        found = a2_no_invention(
            ledger(), bronze([*without(bronze_rows(), 4), {**bronze_rows()[4], "producer_id": None, "seq": None}])
        )
        only(found, "in bronze without a send number", f"{TOPIC}/0/12")

    def test_catches_a_failed_send_that_is_there_all_the_same(self) -> None:
        rows = changed(ledger_rows(), 4, outcome="fail", partition=None, offset=None)
        found = a2_no_invention(ledger(rows), bronze())
        only(found, "in bronze whose send failed", f"{TOPIC}/0/12")

    def test_a_send_of_unknown_outcome_may_be_there(self) -> None:
        rows = changed(ledger_rows(), 4, outcome="info", partition=None, offset=None)
        assert a2_no_invention(ledger(rows), bronze()) == []

    def test_catches_a_send_that_was_ingested_twice(self) -> None:
        found = a2_no_invention(ledger(), bronze([*bronze_rows(), {**bronze_rows()[2], "offset": 14}]))
        only(found, "sends that are in bronze more than once", "producer 0 seq 2")

    def test_of_a_killed_producer_what_was_reserved_may_be_there_and_no_more(self) -> None:
        killed = ledger(ledger_rows()[:4], sent={}, unsettled={0: 7})
        found = a2_no_invention(killed, bronze())
        only(found, "in bronze that no producer sent", f"{TOPIC}/1/23")


class TestOffsets:
    def offsets(self, *gone: int, more: Sequence[int] = ()) -> list[Violation]:
        kept = [position for position in positions_of(bronze()).tolist() if position not in gone]
        return a3_offsets(TOPIC, longs(*kept, *more), KEPT)

    def test_holds_when_each_offset_is_there_once(self) -> None:
        assert self.offsets() == []

    def test_holds_for_a_topic_without_records(self) -> None:
        assert a3_offsets(TOPIC, longs(), {0: (0, 0), 1: (5, 5)}) == []

    def test_catches_an_offset_gap(self) -> None:
        only(self.offsets(at(0, 11)), "offsets missing in bronze", f"{TOPIC}/0/11")

    def test_offsets_that_a_topic_delivers_to_no_reader_are_no_gap(self) -> None:
        gone = longs(*(p for p in positions_of(bronze()).tolist() if p not in (at(0, 11), at(1, 21), at(1, 22))))
        assert offset_gaps(gone, KEPT) == [(0, 11, 11), (1, 21, 22)]
        assert a3_offsets(TOPIC, gone, KEPT, undelivered=[(1, 21, 22), (0, 11, 11)]) == []

    def test_the_rest_of_a_gap_is_missing(self) -> None:
        nothing = longs(*(at(0, offset) for offset in range(10, 14)))
        (found,) = a3_offsets(TOPIC, nothing, KEPT, undelivered=[(1, 21, 21)])
        assert (found.count, found.examples) == (3, (f"{TOPIC}/1/20", f"{TOPIC}/1/22..23"))

    def test_shows_each_gap_as_a_range(self) -> None:
        (found,) = self.offsets(at(1, 21), at(1, 22), at(0, 12))
        assert (found.count, found.examples) == (3, (f"{TOPIC}/0/12", f"{TOPIC}/1/21..22"))

    def test_catches_a_beginning_and_an_end_that_are_missing(self) -> None:
        (found,) = self.offsets(at(0, 10), at(1, 23))
        assert found.examples == (f"{TOPIC}/0/10", f"{TOPIC}/1/23")

    def test_catches_a_partition_that_was_not_read(self) -> None:
        (found,) = a3_offsets(TOPIC, longs(*(at(0, offset) for offset in range(10, 14))), KEPT)
        assert found.examples == (f"{TOPIC}/1/20..23",)

    def test_catches_an_offset_that_was_ingested_twice(self) -> None:
        found = self.offsets(more=[at(0, 11)])
        only(found, "offsets that are in bronze more than once", f"{TOPIC}/0/11")

    def test_a_lost_and_a_doubled_offset_do_not_cancel_out(self) -> None:
        whats = [violation.what for violation in self.offsets(at(0, 12), more=[at(0, 11)])]
        assert whats == ["offsets that are in bronze more than once", "offsets missing in bronze"]

    def test_bronze_may_remember_what_retention_has_deleted(self) -> None:
        assert self.offsets(more=[at(0, 9), at(0, 8)]) == []

    def test_but_not_with_a_gap(self) -> None:
        only(self.offsets(more=[at(0, 8)]), "offsets missing in bronze", f"{TOPIC}/0/9")

    def test_catches_records_beyond_the_end_of_the_topic(self) -> None:
        only(self.offsets(more=[at(0, 14)]), "in bronze beyond the topic's end", f"{TOPIC}/0/14")

    def test_catches_records_of_a_partition_that_does_not_exist(self) -> None:
        only(self.offsets(more=[at(7, 0)]), "in bronze beyond the topic's end", f"{TOPIC}/7/0")

    def test_a_running_stream_may_be_ahead_of_the_first_read(self) -> None:
        positions = longs(*positions_of(bronze()).tolist(), at(0, 14))
        assert a3_offsets(TOPIC, positions, KEPT, {0: 16, 1: 24}) == []


class TestConservation:
    def test_holds_when_every_record_is_in_one_place(self) -> None:
        assert a4_conservation(ledger(), layers()) == []

    def test_holds_for_an_entity_that_sent_nothing(self) -> None:
        empty = layers(bronze([]), silver([]), dead=longs())
        assert a4_conservation(ledger([], sent={0: 0}), empty) == []

    def test_what_is_in_neither_silver_nor_dlq_is_checked_again(self) -> None:
        world = layers()
        assert unplaced(world.bronze, world.silver_positions, world.dlq_positions).tolist() == [at(1, 22)]

    def test_catches_a_record_that_is_in_neither(self) -> None:
        found = a4_conservation(ledger(), layers(silver_=silver(without(silver_rows(), 2))))
        only(found, "in bronze but neither silver, DLQ nor a duplicate", f"{TOPIC}/0/11")

    def test_catches_a_dead_letter_that_was_never_sent(self) -> None:
        found = a4_conservation(ledger(), layers(dead=longs()))
        only(found, "in bronze but neither silver, DLQ nor a duplicate", f"{TOPIC}/0/13")

    def test_catches_a_duplicate_whose_original_is_nowhere(self) -> None:
        found = a4_conservation(ledger(), layers(repeats={at(1, 22): -1}))
        only(found, "in bronze but neither silver, DLQ nor a duplicate", f"{TOPIC}/1/22")

    def test_catches_that_the_first_was_dropped_and_the_second_kept(self) -> None:
        rows = changed(silver_rows(), 1, kafka_offset=22)
        world = layers(silver_=silver(rows), repeats={at(1, 20): at(1, 22)})
        found = a4_conservation(ledger(), world)
        only(found, "in bronze but neither silver, DLQ nor a duplicate", f"{TOPIC}/1/20")

    def test_an_original_in_another_partition_has_no_earlier_or_later(self) -> None:
        assert a4_conservation(ledger(), layers(repeats={at(1, 22): at(0, 99)})) == []

    def test_catches_a_record_in_two_places(self) -> None:
        found = a4_conservation(ledger(), layers(dead=longs(at(0, 13), at(0, 12))))
        assert "in both silver and DLQ" in [violation.what for violation in found]

    def test_catches_a_row_of_silver_that_was_never_in_bronze(self) -> None:
        more = [*silver_rows(), {**silver_rows()[0], "kafka_offset": 77, "event_id": "new"}]
        whats = [violation.what for violation in a4_conservation(ledger(), layers(silver_=silver(more)))]
        assert "in silver but not in bronze" in whats

    def test_catches_a_dead_letter_of_a_record_that_was_never_in_bronze(self) -> None:
        found = a4_conservation(ledger(), layers(dead=longs(at(0, 13), at(0, 50))))
        only(found, "in the DLQ but not in bronze", f"{TOPIC}/0/50")

    def test_catches_a_row_that_silver_has_twice(self) -> None:
        doubled = silver([*silver_rows(), {**silver_rows()[0], "event_id": "other"}])
        found = a4_conservation(ledger(), layers(silver_=doubled))
        only(found, "in silver more than once", f"{TOPIC}/0/10")

    def test_catches_a_duplicate_that_was_not_dropped(self) -> None:
        again = {**silver_rows()[1], "kafka_offset": 22, "kafka_ts": NOON + timedelta(seconds=5)}
        found = a4_conservation(ledger(), layers(silver_=silver([*silver_rows(), again]), repeats={}))
        only(found, "event_ids that silver has more than once", "e1")

    def test_a_repetition_after_the_window_is_a_record_of_its_own(self) -> None:
        again = {**silver_rows()[1], "kafka_offset": 22, "kafka_ts": NOON + timedelta(days=2)}
        assert a4_conservation(ledger(), layers(silver_=silver([*silver_rows(), again]), repeats={})) == []

    def test_catches_a_row_of_silver_with_another_run(self) -> None:
        world = layers(silver_=silver(without(silver_rows(), 0)))
        world = replace(world, silver_positions=positions_of(silver(), "kafka_"))
        only(a4_conservation(ledger(), world), "in silver under another run", f"{TOPIC}/0/10")

    def test_catches_poison_in_silver(self) -> None:
        drunk = {**silver_rows()[0], "seq": 6, "kafka_offset": 13, "event_id": "e6"}
        found = a4_conservation(ledger(), layers(silver_=silver([*silver_rows(), drunk]), dead=longs()))
        only(found, "poison records in silver", f"{TOPIC}/0/13")

    def test_catches_a_good_record_in_the_dlq(self) -> None:
        world = layers(silver_=silver(without(silver_rows(), 4)), dead=longs(at(0, 13), at(0, 12)))
        only(a4_conservation(ledger(), world), "good records in the DLQ", f"{TOPIC}/0/12")

    def test_catches_a_late_record_that_is_not_marked(self) -> None:
        found = a4_conservation(ledger(), layers(silver_=silver(changed(silver_rows(), 7, is_late=False))))
        only(found, "late records not marked late", f"{TOPIC}/1/23")

    def test_catches_two_rows_of_silver_that_changed_places(self) -> None:
        rows = changed(changed(silver_rows(), 0, kafka_offset=11), 2, kafka_offset=10)
        found = a4_conservation(ledger(), layers(silver_=silver(rows)))
        only(found, "rows of silver that hold another record's send", f"{TOPIC}/0/10", f"{TOPIC}/0/11")

    def test_a_duplicate_whose_original_was_never_written_takes_its_place(self) -> None:
        sent = changed(ledger_rows(), 1, outcome="fail", partition=None, offset=None)
        rows = changed(silver_rows(), 1, kafka_offset=22)
        world = layers(bronze(without(bronze_rows(), 1)), silver(rows), repeats={})
        assert a4_conservation(ledger(sent), world) == []

    def test_the_poison_of_a_killed_producer_is_unknown(self) -> None:
        killed = ledger(without(ledger_rows(), 6), sent={}, unsettled={0: 8})
        assert a4_conservation(killed, layers()) == []


class TestOrder:
    def test_holds_when_sends_rise_with_offsets(self) -> None:
        assert a6_order(TOPIC, bronze()) == []

    def test_holds_for_nothing_and_for_one(self) -> None:
        assert a6_order(TOPIC, bronze([])) == []
        assert a6_order(TOPIC, bronze(bronze_rows()[:1])) == []

    def test_does_not_depend_on_the_order_of_rows(self) -> None:
        assert a6_order(TOPIC, bronze(bronze_rows()[::-1])) == []

    def test_catches_two_records_of_a_key_that_changed_places(self) -> None:
        rows = changed(changed(bronze_rows(), 1, offset=21), 3, offset=20)
        only(a6_order(TOPIC, bronze(rows)), "records that overtook an earlier one of their key", f"{TOPIC}/1/21")

    def test_keys_partitions_and_producers_are_independent(self) -> None:
        rows = [
            {"producer_id": 0, "seq": 9, "partition": 0, "offset": 1, "key": b"a"},
            {"producer_id": 0, "seq": 2, "partition": 0, "offset": 2, "key": b"b"},
            {"producer_id": 1, "seq": 1, "partition": 0, "offset": 3, "key": b"a"},
            {"producer_id": 0, "seq": 1, "partition": 1, "offset": 4, "key": b"a"},
            {"producer_id": 0, "seq": 10, "partition": 0, "offset": 5, "key": b"a"},
        ]
        assert a6_order(TOPIC, bronze(rows)) == []

    def test_records_without_a_key_are_held_to_the_order_of_their_partition(self) -> None:
        rows = [
            {"producer_id": 0, "seq": 5, "partition": 0, "offset": 1, "key": None},
            {"producer_id": 0, "seq": 4, "partition": 0, "offset": 2, "key": None},
        ]
        assert len(a6_order(TOPIC, bronze(rows))) == 1


class TestLanded:
    """The same world, written as files: partition -2, offset is the send number; silver and DLQ follow."""

    @staticmethod
    def laid_down(rows: list[Row], prefix: str = "") -> list[Row]:
        return [{**row, f"{prefix}partition": -2, f"{prefix}offset": row["seq"]} for row in rows]

    def everything(self, bronze_: list[Row] | None = None) -> tuple[Ledger, Layers]:
        rows = self.laid_down(bronze_rows()) if bronze_ is None else bronze_
        world = layers(
            bronze(rows),
            silver(self.laid_down(silver_rows(), "kafka_")),
            longs(at(-2, 6)),
            repeats={at(-2, 5): at(-2, 1)},
        )
        return ledger(self.laid_down(ledger_rows())), world

    def test_holds_as_it_does_for_a_topic(self) -> None:
        book, world = self.everything()
        positions = positions_of(world.bronze)
        assert a1_no_loss(book, world.bronze) == []
        assert a2_no_invention(book, world.bronze) == []
        assert landed_marks(positions, book) == {-2: (0, 8)}
        assert a3_offsets(TOPIC, positions, landed_marks(positions, book)) == []
        assert a4_conservation(book, world) == []
        assert a6_order(TOPIC, world.bronze) == []

    def test_files_of_another_run_do_not_disturb_a_topic(self) -> None:
        positions = np.concatenate([positions_of(bronze()), longs(at(-3, 0), at(-3, 1))])
        marks = {**KEPT, **landed_marks(positions, ledger())}
        assert a3_offsets(TOPIC, positions, marks) == []

    @pytest.mark.parametrize("seq", [0, 3, 7])
    def test_catches_a_record_that_was_not_imported(self, seq: int) -> None:
        book, world = self.everything(without(self.laid_down(bronze_rows()), seq))
        only(a1_no_loss(book, world.bronze), "acknowledged but not in bronze", f"{TOPIC}/-2/{seq}")
        positions = positions_of(world.bronze)
        only(
            a3_offsets(TOPIC, positions, landed_marks(positions, book)),
            "offsets missing in bronze",
            f"{TOPIC}/-2/{seq}",
        )

    def test_catches_a_record_that_was_imported_twice(self) -> None:
        rows = self.laid_down(bronze_rows())
        book, world = self.everything([*rows, rows[2]])
        positions = positions_of(world.bronze)
        only(
            a3_offsets(TOPIC, positions, landed_marks(positions, book)),
            "offsets that are in bronze more than once",
            f"{TOPIC}/-2/2",
        )

    def test_a_record_lost_on_the_way_to_silver_is_no_duplicate(self) -> None:
        book, world = self.everything()
        lost = replace(world, repeats={at(-2, 5): NOWHERE})
        only(
            a4_conservation(book, lost),
            "in bronze but neither silver, DLQ nor a duplicate",
            f"{TOPIC}/-2/5",
        )
