"""Straight to the lake: a chunk is one file per entity, acknowledged when the object store has it (ADR 0009).

`crm lake import` imports the files into bronze and silver. A chunk that is sent again overwrites its own files, so a
killed process leaves nothing to recover.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from data_generator.backfill.mark import Offsets
from data_generator.ledger import Account
from data_generator.ledger_store import LedgerStore
from data_generator.model import Send
from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError
from data_platform_core.naming import landing_manifest, landing_part, landing_prefix
from data_platform_core.wire.landing import HIGHEST_NUMBER, LANDED_FILE, Manifest, partition_of
from data_platform_core.wire.ledger import record_digest

#: In the ledger's bucket: an empty object per assigned number.
_NUMBERS = "landings/"


def claim_number(store: LedgerStore, run_id: str) -> int:
    """A new landing number. Raises ConfigurationError when all are used."""
    number = 1 + max((int(key.removeprefix(_NUMBERS)) for key in store.keys(_NUMBERS)), default=0)
    while number <= HIGHEST_NUMBER:
        if store.put_new(f"{_NUMBERS}{number:06d}", run_id.encode()):
            return number
        number += 1
    raise ConfigurationError(f"all {HIGHEST_NUMBER:,} landing numbers are given out; send this run through Kafka")


class LandingTarget:
    """See `Target`."""

    def __init__(self, store: LedgerStore, run_id: str, producer_id: int, number: int) -> None:
        self._store, self._run_id, self._producer_id, self._number = store, run_id, producer_id, number
        self._waiting: dict[str, tuple[Account, list[Send]]] = {}

    def recover(self, ends: Offsets) -> int:
        """Nothing to recover: see above."""
        return 0

    def send(self, account: Account, contract: Contract, send: Send) -> None:
        """Keep it for the chunk's file."""
        self._waiting.setdefault(account.entity, (account, []))[1].append(send)
        account.digests.append(record_digest(send.key, send.value))
        account.sent = send.seq + 1

    def poll(self) -> None:
        """Nothing is settled before the chunk's end."""

    @property
    def buffered(self) -> int:
        return sum(len(sends) for _, sends in self._waiting.values())

    def settle(self, look: Callable[[], None], chunk: int) -> None:
        """One file per entity."""
        partition = partition_of(self._number)
        for entity, (account, sends) in self._waiting.items():
            buffer = io.BytesIO()
            pq.write_table(self._table(sends, partition), buffer, compression="zstd")
            self._store.put_landing(landing_part(self._run_id, entity, chunk), buffer.getvalue())
            for send in sends:
                account.acknowledged(send.seq, partition, send.seq)
            look()
        self._waiting = {}

    def finish(self, chunks: int, sent: Mapping[str, int]) -> None:
        """The manifest: without it nothing is imported."""
        manifest = Manifest(run_id=self._run_id, number=self._number, chunks=chunks, rows=dict(sent))
        self._store.put_landing(landing_manifest(self._run_id), manifest.model_dump_json().encode())

    def _table(self, sends: list[Send], partition: int) -> pa.Table:
        count, seqs = len(sends), [send.seq for send in sends]
        columns = {
            "key": [send.key for send in sends],
            "value": [send.value for send in sends],
            "run_id": [self._run_id] * count,
            "producer_id": [self._producer_id] * count,
            "seq": seqs,
            "topic": [landing_prefix(self._run_id)] * count,
            "partition": [partition] * count,
            "offset": seqs,
            "kafka_ts": [datetime.now(UTC)] * count,
        }
        return pa.table(columns, schema=LANDED_FILE)
