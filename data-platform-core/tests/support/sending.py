"""Records of a test's own making, sent as a run with a ledger, so that the equations apply to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from arrivals import Headers
from confluent_kafka import Producer

from data_generator.ledger import Account, Ledger, new_summary
from data_generator.ledger_store import LedgerStore
from data_generator.model import INJECTED
from data_platform_core.kafka.client import connection
from data_platform_core.naming import names
from data_platform_core.settings import Settings
from data_platform_core.wire.ledger import ORIGIN_HEADER, Injected, Outcome, origin, record_digest

#: Numbers reserved in the ledger at once; more than a test sends.
_RESERVED_PER_S = 5_000
Position = tuple[int, int]


class LedgerRun:
    """One producer of one run. `places` has each record's partition and offset, by entity and label."""

    def __init__(self, settings: Settings, run_id: str, entities: Iterable[str]) -> None:
        self.run_id = run_id
        self.places: dict[tuple[str, str], Position] = {}
        self._ledger = Ledger(
            LedgerStore(settings.object_store, run_id, 0),
            list(entities),
            new_summary(run_id, 0, "extremes", 0, None),
            _RESERVED_PER_S,
        )
        self._accounts = {account.entity: account for account in self._ledger.accounts}
        self._producer = Producer(
            {**connection(settings.kafka), "acks": "all", "enable.idempotence": True, "linger.ms": 20}
        )
        self._ledger.open()

    def next_seq(self, entity: str) -> int:
        """The number that the entity's next record of the run takes."""
        return self._accounts[entity].sent

    def send(self, entity: str, label: str, key: bytes | None, value: bytes | None, injected: Injected) -> None:
        """Send a record of the run."""
        self._ledger.tick(1, self._producer.poll)
        account, seq = self._accounts[entity], self.next_seq(entity)
        account.injected[seq] = INJECTED.index(injected)
        account.digests.append(record_digest(key or b"", value or b""))
        account.sent = seq + 1
        headers = ((ORIGIN_HEADER, origin(self.run_id, 0, seq)),)
        self._produce(entity, label, key, value, headers, (account, seq))

    def send_foreign(
        self, entity: str, label: str, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> None:
        """Send a record that is of no run."""
        self._produce(entity, label, key, value, headers, None)

    def close(self) -> None:
        """Settle everything. Fails unless all was acknowledged."""
        assert self._producer.flush(60) == 0
        summary = self._ledger.close({})
        assert all(not account.failed and not account.unknown for account in self._accounts.values()), summary

    def _produce(
        self,
        entity: str,
        label: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        send: tuple[Account, int] | None,
    ) -> None:
        def settled(error: Any, message: Any) -> None:
            if error is None:
                self.places[entity, label] = (message.partition(), message.offset())
            if send and error is None:
                send[0].acknowledged(send[1], message.partition(), message.offset())
            elif send:
                send[0].trouble(send[1], Outcome.INFO)

        while True:
            try:
                self._producer.produce(names(entity).topic, value, key, headers=list(headers), on_delivery=settled)
                return
            except BufferError:
                self._producer.poll(0.1)
