"""The ledger of a run: each number once, nothing recorded early, nothing used before it is reserved."""

from __future__ import annotations

import threading
from collections import Counter
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from data_generator.ledger import LEAST_RESERVATION, Account, Ledger, new_summary
from data_platform_core.errors import ServiceError
from data_platform_core.wire.ledger import LEDGER_SCHEMA, Outcome, ProducerSummary, unsettled_below

pytestmark = pytest.mark.unit


class Shelf:
    """Keeps what a ledger writes; `away` makes it refuse, `hold` makes it wait."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.summaries: list[ProducerSummary] = []
        self.away = False
        self.hold = threading.Event()
        self.hold.set()

    def claim(self) -> None:
        pass

    def put_part(self, entity: str, number: int, columns: dict[str, Any]) -> None:
        self._answer()
        for row in pa.table(columns, schema=LEDGER_SCHEMA).to_pylist():
            self.rows.append(row | {"entity": entity, "part": number})

    def put_summary(self, summary: ProducerSummary) -> None:
        self._answer()
        self.summaries.append(summary)

    def _answer(self) -> None:
        assert self.hold.wait(10)
        if self.away:
            raise ServiceError("the shelf is away")


def ledger_on(shelf: Shelf, rate: float | None = None) -> Ledger:
    ledger = Ledger(shelf, ["events", "orders"], new_summary("r", 0, "normal", 1, rate), rate)  # type: ignore[arg-type]
    ledger.open()
    return ledger


def no_wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def send(account: Account, count: int) -> range:
    """Use the next `count` numbers; the digest of send `seq` is `digest_of(seq)`."""
    begin = account.sent
    account.sent += count
    account.digests.extend(map(digest_of, range(begin, account.sent)))
    return range(begin, account.sent)


def digest_of(seq: int) -> int:
    return 2**64 - 1 - seq


def test_rows_have_each_number_once_with_its_outcome_in_any_order_of_answers() -> None:
    shelf, rng = Shelf(), Random(5)
    ledger = ledger_on(shelf)
    events = ledger.accounts[0]
    waiting = list(send(events, 1_500))
    rng.shuffle(waiting)
    for position, seq in enumerate(waiting):
        if seq % 100 == 7:
            events.trouble(seq, Outcome.FAIL)
        else:
            events.acknowledged(seq, seq % 3, 1_000 + seq)
        if position % 400 == 0:
            ledger.flush()
    summary = ledger.close({"achieved_rate": 100.0})
    assert sorted(row["seq"] for row in shelf.rows) == list(range(1_500))
    for row in shelf.rows:
        failed = row["seq"] % 100 == 7
        assert row["outcome"] == ("fail" if failed else "ok")
        assert row["offset"] == (None if failed else 1_000 + row["seq"])
        assert row["partition"] == (None if failed else row["seq"] % 3)
        assert row["digest"] == digest_of(row["seq"])
    assert len(events.digests) == 0, "kept until a send is settled, and no longer"
    assert (summary.finished, summary.sent) == (True, {"events": 1_500, "orders": 0})


def test_what_was_never_answered_is_unknown_at_the_end_and_absent_before() -> None:
    shelf = Shelf()
    ledger = ledger_on(shelf)
    events = ledger.accounts[0]
    for seq in send(events, 100):
        if seq not in (13, 77, 99):
            events.acknowledged(seq, 0, seq)
    ledger.flush()
    while len(shelf.rows) < 97:
        no_wait(0.01)
    assert Counter(row["outcome"] for row in shelf.rows) == {"ok": 97}
    ledger.close({})
    assert {row["seq"] for row in shelf.rows if row["outcome"] == "info"} == {13, 77, 99}
    assert len(shelf.rows) == 100
    assert all(row["digest"] == digest_of(row["seq"]) for row in shelf.rows)


def test_a_resumed_account_keeps_the_digests_of_its_own_sends() -> None:
    account = Account("events")
    account.resume(500)
    for seq in send(account, 10):
        account.acknowledged(seq, 0, seq)
    columns = account.cut()
    assert columns is not None
    assert columns["digest"].to_pylist() == [digest_of(seq) for seq in range(500, 510)]


def test_injected_sends_are_marked() -> None:
    shelf = Shelf()
    ledger = ledger_on(shelf)
    events = ledger.accounts[0]
    events.injected = {1: 1, 2: 2, 3: 3}
    for seq in send(events, 5):
        events.acknowledged(seq, 0, seq)
    ledger.close({})
    assert [row["injected"] for row in shelf.rows] == ["none", "duplicate", "late", "poison", "none"]


def test_nothing_is_sent_that_is_not_reserved_in_the_store() -> None:
    shelf = Shelf()
    ledger = ledger_on(shelf)
    events = ledger.accounts[0]
    for _ in range(40):
        ledger.tick(500, no_wait)
        for seq in send(events, 500):
            assert seq < unsettled_below(shelf.summaries[-1], "events")
            events.acknowledged(seq, 0, seq)
    ledger.close({})
    assert events.sent == 20_000
    assert unsettled_below(shelf.summaries[-1], "events") == 0


def test_sending_pauses_while_the_store_does_not_answer() -> None:
    shelf = Shelf()
    ledger = ledger_on(shelf)
    events = ledger.accounts[0]
    shelf.hold.clear()
    send(events, LEAST_RESERVATION - 10)
    waits = 0

    def wait(seconds: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 3:
            shelf.hold.set()
        no_wait(seconds)

    ledger.tick(500, wait)
    assert waits >= 3
    assert events.reserved >= events.sent + 500
    ledger.close({})


def test_a_store_that_is_gone_ends_the_run_and_leaves_it_unfinished() -> None:
    shelf = Shelf()
    ledger = ledger_on(shelf)
    events = ledger.accounts[0]
    shelf.away = True
    send(events, LEAST_RESERVATION)
    with pytest.raises(ServiceError, match="the shelf is away"):
        ledger.tick(500, no_wait)
    with pytest.raises(ServiceError, match="the shelf is away"):
        ledger.close({})
    assert not shelf.summaries[-1].finished


def test_a_reservation_lasts_some_seconds_at_the_target_rate() -> None:
    shelf = Shelf()
    ledger_on(shelf, rate=3_000).close({})
    assert shelf.summaries[0].reserved == {"events": 30_000, "orders": 30_000}
