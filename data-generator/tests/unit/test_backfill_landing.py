"""Straight to the lake: files with bronze's columns, and coordinates that no topic has."""

from __future__ import annotations

import io
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_generator.backfill.landing import LandingTarget, claim_number
from data_generator.ledger import Account
from data_generator.model import Send
from data_platform_core.contracts import Contract
from data_platform_core.wire.landing import LANDED_FILE, Manifest, partition_of

pytestmark = pytest.mark.unit


class Shelf:
    """The store's side: keeps what is put; `taken` are keys that another writer puts first."""

    def __init__(self, *taken: str) -> None:
        self.objects: dict[str, bytes] = dict.fromkeys(taken, b"")
        self.hidden: set[str] = set()

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self.objects if key.startswith(prefix) and key not in self.hidden]

    def put_new(self, key: str, data: bytes) -> bool:
        return self.objects.setdefault(key, data) is data

    def put_landing(self, key: str, data: bytes) -> None:
        self.objects[key] = data


def shelf(*taken: str) -> Any:
    return Shelf(*taken)


def test_numbers_rise_and_skip_one_that_another_run_used_meanwhile() -> None:
    store = shelf("landings/000001", "landings/000002")
    store.hidden = {"landings/000002"}  # written after the listing
    assert claim_number(store, "a") == 3
    assert claim_number(store, "b") == 4


def test_partitions_are_below_minus_one_and_each_numbers_own() -> None:
    assert [partition_of(number) for number in (1, 2)] == [-2, -3]


def test_a_chunk_is_one_file_per_entity_acknowledged_once_it_is_there(contracts: dict[str, Contract]) -> None:
    store, account = shelf(), Account("orders")
    target = LandingTarget(store, "a-run", 0, 7)
    for seq in (5, 6):
        target.send(account, contracts["orders"], Send(1, seq, b"k%d" % seq, b"v", 0))
    assert (target.buffered, account.sent, list(account.seqs)) == (2, 7, [])
    target.settle(lambda: None, 3)
    assert target.buffered == 0
    assert (list(account.seqs), list(account.partitions), list(account.offsets)) == ([5, 6], [-8, -8], [5, 6])
    [(key, content)] = store.objects.items()
    assert key == "landing/a-run/orders/part-000003.parquet"
    found = pq.read_table(io.BytesIO(content))
    assert found.schema.names == LANDED_FILE.names
    assert found.select(["key", "seq", "topic", "partition", "offset"]).to_pylist() == [
        {"key": b"k%d" % seq, "seq": seq, "topic": "landing/a-run", "partition": -8, "offset": seq} for seq in (5, 6)
    ]


def test_the_manifest_lists_the_required_rows() -> None:
    store = shelf()
    LandingTarget(store, "a-run", 0, 7).finish(3, {"orders": 12})
    [(key, content)] = store.objects.items()
    assert key == "landing/a-run/manifest.json"
    assert Manifest.model_validate_json(content) == Manifest(run_id="a-run", number=7, chunks=3, rows={"orders": 12})
