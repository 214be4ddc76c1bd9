"""Destinations of a backfill's chunks. A target accepts sends and reports when all of them are safe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from data_generator.backfill.mark import Offsets
from data_generator.backfill.tail import QUIET_S, Tail, read_tails
from data_generator.ledger import Account
from data_generator.model import Send
from data_generator.sinks.kafka import DELIVERY_TIMEOUT_MS, KafkaSink
from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.settings import KafkaSettings
from data_platform_core.wire.ledger import record_digest

#: Poll interval while waiting for acknowledgements, seconds.
_LOOK_S = 0.5
#: After this long without all acknowledgements a chunk has failed, seconds.
_SETTLE_S = DELIVERY_TIMEOUT_MS / 1000 + 10


class Target(Protocol):
    """Interface of a backfill's destination. All methods raise ServiceError in one line."""

    def recover(self, ends: Offsets) -> int:
        """Find the records of a killed process's unfinished chunk; returns their number."""
        ...

    def send(self, account: Account, contract: Contract, send: Send) -> None:
        """Accept one send; its outcome reaches the ledger later."""
        ...

    def poll(self) -> None:
        """Report settled sends to the ledger."""
        ...

    def settle(self, look: Callable[[], None], chunk: int) -> None:
        """Return when all sends of `chunk` are acknowledged; `look` is called while waiting."""
        ...

    def finish(self, chunks: int, sent: Mapping[str, int]) -> None:
        """All is settled."""
        ...

    @property
    def buffered(self) -> int:
        """Number of accepted sends that are not settled yet."""
        ...


class KafkaTarget:
    """Kafka, through a producer that stops at the first record it can't deliver.

    So the log always has a prefix of a partition's sends, wherever the process dies. Missing records follow the
    existing ones, and sending them later overtakes nothing. `send` verifies that.
    """

    def __init__(
        self, settings: KafkaSettings, contracts: Mapping[str, Contract], run_id: str, producer_id: int
    ) -> None:
        self._settings, self._contracts = settings, contracts
        self._run_id, self._producer_id = run_id, producer_id
        self._sink = KafkaSink(settings, run_id, producer_id, gapless=True)
        self._tails: dict[str, Tail] = {}
        self._ends: Offsets = {}

    def recover(self, ends: Offsets) -> int:
        self._ends = ends
        self._tails = self._read(QUIET_S)
        return sum(len(tail.places) for tail in self._tails.values())

    def send(self, account: Account, contract: Contract, send: Send) -> None:
        tail = self._tails.get(account.entity)
        if tail:
            place = tail.places.get(send.seq)
            if place:
                account.sent = send.seq + 1
                account.digests.append(record_digest(send.key, send.value))
                account.acknowledged(send.seq, *place)
                return
            later = tail.highest.get(send.key, -1)
            if later > send.seq:
                raise ServiceError(
                    f"{contract.names.topic} has send {later} of key {send.key!r} and not send {send.seq} before it: "
                    "sending that now would break the key's order; start a new run"
                )
        self._sink.send(account, contract.names.topic, send.seq, send.key, send.value)

    def poll(self) -> None:
        self._sink.poll()

    def finish(self, chunks: int, sent: Mapping[str, int]) -> None:
        """Nothing to do for a topic."""

    def settle(self, look: Callable[[], None], chunk: int) -> None:
        deadline = time.monotonic() + _SETTLE_S
        while self._sink.drain(_LOOK_S) and time.monotonic() < deadline:
            self._sink.check()
            look()
        self._sink.check()
        if left := self._sink.buffered:
            raise ServiceError(f"Kafka {self._settings.bootstrap_servers} left {left:,} records unacknowledged")
        if self._tails:
            self._check_recovered()

    def _check_recovered(self) -> None:
        """After all acknowledgements no earlier record can still appear. So each send must now be present, once."""
        before, self._tails = self._tails, {}
        for entity, tail in self._read(0).items():
            lost = before[entity].places.items() - tail.places.items()
            if lost:
                seq, (partition, offset) = min(lost)
                raise ServiceError(
                    f"send {seq} was at {self._contracts[entity].names.topic}/{partition}/{offset} and is gone; "
                    "resume once more when the brokers are well"
                )

    def _read(self, quiet_s: float) -> dict[str, Tail]:
        return read_tails(self._settings, self._contracts, self._ends, self._run_id, self._producer_id, quiet_s)

    @property
    def buffered(self) -> int:
        return self._sink.buffered
