"""Kafka: an idempotent producer that reports the outcome of every send to the ledger.

Keys are the contract's key as text, values Confluent-framed Avro, and each message has its number in the header
`ORIGIN_HEADER`, so that even an undecodable one can be identified.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from data_generator.ledger import Account
from data_platform_core.errors import ServiceError
from data_platform_core.kafka.client import connection
from data_platform_core.settings import KafkaSettings
from data_platform_core.wire.ledger import ORIGIN_HEADER, Outcome, origin, record_digest

#: A send without an answer for this long counts as unknown, ms: brokers restart, leaders move, machines pause.
DELIVERY_TIMEOUT_MS = 120_000
#: Linger, ms: larger batches, fewer requests; negligible compared with the seconds to silver.
LINGER_MS = 20
BATCH_BYTES = 512 * 1024
#: Buffer limit in memory: 10 s at 50,000 records/s.
BUFFER_RECORDS = 500_000
BUFFER_KB = 512 * 1024
#: Partitions added during a run receive records after at most this long, ms (default: five minutes).
METADATA_REFRESH_MS = 10_000

#: Errors that prove that the record was not written. With any other error the outcome is unknown.
_NEVER_WRITTEN = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.INVALID_RECORD,
}


class KafkaSink:
    """One producer of one run. Not for use by several threads: delivery reports are served by `poll` and `send`."""

    def __init__(
        self,
        settings: KafkaSettings,
        run_id: str,
        producer_id: int,
        gapless: bool = False,
        buffer_records: int = BUFFER_RECORDS,
    ) -> None:
        """`gapless`: a record that can't be delivered stops the producer, so that per partition what the log has is
        always the beginning of what was sent."""
        self._fatal: str | None = None
        self._prefix = origin(run_id, producer_id, 0)[:-1]
        self._producer = Producer(
            {
                **connection(settings),
                "client.id": f"crm-generator-{run_id}-{producer_id}",
                "enable.idempotence": True,
                "enable.gapless.guarantee": gapless,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": LINGER_MS,
                "batch.size": BATCH_BYTES,
                "batch.num.messages": 20_000,
                "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
                "queue.buffering.max.messages": buffer_records,
                "queue.buffering.max.kbytes": BUFFER_KB,
                "topic.metadata.refresh.interval.ms": METADATA_REFRESH_MS,
                # The partition that Java clients choose for the same key.
                "partitioner": "murmur2_random",
                "error_cb": self._on_error,
            }
        )
        self._produce = self._producer.produce

    def send(self, account: Account, topic: str, seq: int, key: bytes, value: bytes) -> None:
        """Queue one record; waits while the buffer is full. The ledger records the send in either case."""
        headers = [(ORIGIN_HEADER, self._prefix + b"%d" % seq)]
        account.digests.append(record_digest(key, value))
        while True:
            try:
                self._produce(topic, value, key, headers=headers, on_delivery=partial(self._report, account, seq))
                break
            except BufferError:
                # The brokers are slower: serve acknowledgements until there is room.
                self._producer.poll(0.05)
                self.check()
            except KafkaException:
                account.trouble(seq, Outcome.FAIL)
                break
        account.sent = seq + 1

    def send_all(self, account: Account, topic: str, seq: int, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Queue many records, numbered from `seq`: `send` without its cost per record."""
        produce, prefix, report, bound = self._produce, self._prefix, self._report, partial
        digest, keep = record_digest, account.digests.append
        for key, value in records:
            try:
                produce(
                    topic,
                    value,
                    key,
                    headers=[(ORIGIN_HEADER, prefix + b"%d" % seq)],
                    on_delivery=bound(report, account, seq),
                )
            except (BufferError, KafkaException):
                self.send(account, topic, seq, key, value)
            else:
                keep(digest(key, value))
            seq += 1
        account.sent = seq

    def _report(self, account: Account, seq: int, error: Any, message: Any) -> None:
        if error is None:
            account.acknowledged(seq, message.partition(), message.offset())
        else:
            account.trouble(seq, Outcome.FAIL if error.code() in _NEVER_WRITTEN else Outcome.INFO)

    def poll(self, seconds: float = 0) -> None:
        """Serve delivery reports. Raises ServiceError after an error that the producer can't recover from."""
        self._producer.poll(seconds)
        self.check()

    @property
    def buffered(self) -> int:
        """Records and requests not yet settled."""
        return len(self._producer)

    def check(self) -> None:
        if self._fatal:
            raise ServiceError(f"Kafka producer stopped: {self._fatal}")

    def drain(self, timeout_s: float) -> int:
        """Wait until all are settled, at most `timeout_s`; returns the number of unsettled sends, which are dropped."""
        deadline = time.monotonic() + timeout_s
        while len(self._producer) and time.monotonic() < deadline:
            self._producer.flush(min(0.5, max(0.0, deadline - time.monotonic())))
        return len(self._producer)

    def abandon(self) -> None:
        """Stop sending; the remaining delivery reports are unknown."""
        self._producer.purge()
        self._producer.flush(1)

    def _on_error(self, error: Any) -> None:
        if error.fatal():
            self._fatal = error.str()
