"""Reading a ledger back: several producers, several parts, and objects that are not what they must be."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_platform_core.accounting.ledger_reader import assemble
from data_platform_core.accounting.reconcile import dead_positions, produced
from data_platform_core.errors import AccountingError
from data_platform_core.wire.dead_letters import DeadLetter, Source
from data_platform_core.wire.ledger import LEDGER_SCHEMA, Injected, ProducerSummary, part_key, summary_key

pytestmark = pytest.mark.unit


def part(*seqs: int, schema: pa.Schema = LEDGER_SCHEMA) -> bytes:
    rows = [
        {"seq": seq, "outcome": "ok", "injected": "late" if seq == 2 else "none", "partition": 0, "offset": 100 + seq,
         "digest": 2**63 + seq}
        for seq in seqs
    ]  # fmt: skip
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer)
    return buffer.getvalue()


def summary(producer: int, **changes: Any) -> bytes:
    values = {
        "run_id": "r", "producer_id": producer, "scenario": "s", "seed": 1, "started_at": "2026-11-21T00:00:00Z",
        "finished": True, "sent": {"orders": 4},
    }  # fmt: skip
    return ProducerSummary.model_validate({**values, **changes}).model_dump_json().encode()


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {
        summary_key("", 0, 1): summary(0),
        part_key("", 0, "orders", 1): part(1, 0),
        part_key("", 0, "orders", 2): part(3, 2),
        summary_key("", 1, 1): summary(1, finished=False, sent={}, reserved={"orders": 50}),
        part_key("", 1, "orders", 1): part(0),
    }


def test_parts_of_all_producers_become_one_ledger(objects: dict[str, bytes]) -> None:
    run = assemble("r", objects)
    ledger = run.of("orders")
    assert len(ledger.rows) == 5
    assert (ledger.sent, ledger.unsettled) == ({0: 4}, {1: 50})
    assert run.unfinished == (1,)
    assert len(ledger.injected(Injected.LATE)) == 1
    assert produced(ledger) == 5


def test_an_entity_that_the_run_did_not_send_has_an_empty_ledger(objects: dict[str, bytes]) -> None:
    ledger = assemble("r", objects).of("events")
    assert (len(ledger.rows), produced(ledger), ledger.topic) == (0, 0, "crm.events.v1")


def test_a_ledger_from_before_digests_is_read_without_them(objects: dict[str, bytes]) -> None:
    old = part(3, 2, schema=LEDGER_SCHEMA.remove(LEDGER_SCHEMA.get_field_index("digest")))
    run = assemble("r", {**objects, part_key("", 0, "orders", 2): old})
    digests = dict(zip(run.rows["orders"]["seq"].to_pylist(), run.rows["orders"]["digest"].to_pylist(), strict=True))
    assert digests == {0: 2**63, 1: 2**63 + 1, 2: None, 3: None}


@pytest.mark.parametrize(
    ("key", "content", "told"),
    [
        ("0/orders/part-000003.parquet", b"no parquet", "part-000003.parquet is no ledger part"),
        ("0/orders/part-000003.parquet", part(4, schema=pa.schema([("seq", pa.int64())])), "is no ledger part"),
        ("0/summary-000001.json", b"{}", "0/summary-000001.json"),
        ("0/notes.txt", b"", "0/notes.txt is neither a summary nor a part"),
        ("7/orders/part-000001.parquet", part(0), "producer 7 has parts but no summary"),
    ],
)
def test_a_broken_ledger_names_its_object(objects: dict[str, bytes], key: str, content: bytes, told: str) -> None:
    with pytest.raises(AccountingError) as failed:
        assemble("r", {**objects, key: content})
    assert told in str(failed.value)
    assert "\n" not in str(failed.value)


def letter(topic: str, offset: int) -> DeadLetter:
    return DeadLetter(Source(topic, 0, offset), "undecodable", 0, None, None, None)


def test_dead_letters_are_placed_by_their_source() -> None:
    assert dead_positions("t", [letter("t", 5), letter("t", 6)]).tolist() == [5, 6]
    assert dead_positions("t", []).tolist() == []


def test_a_dead_letter_of_another_topic_is_reported() -> None:
    with pytest.raises(AccountingError, match="other/0/5"):
        dead_positions("t", [letter("other", 5)])
