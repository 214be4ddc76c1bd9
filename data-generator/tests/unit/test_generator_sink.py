"""What the ledger records for sends that were not acknowledged: `fail` only where nothing can have been written."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from data_generator.ledger import Account
from data_generator.sinks.kafka import KafkaSink
from data_platform_core.settings import load_settings

pytestmark = pytest.mark.unit

TOPIC = "crm.events.v1"


@pytest.fixture
def sink() -> KafkaSink:
    """A producer whose address does not answer."""
    nowhere = load_settings("generator", "local").kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:9"})
    return KafkaSink(nowhere, "r", 0, buffer_records=10)


def outcomes(account: Account) -> tuple[int, int, int]:
    return account.acked, account.failed, account.unknown


def test_a_send_without_an_answer_is_unknown(sink: KafkaSink) -> None:
    account = Account("events")
    sink.send(account, TOPIC, 0, b"key", b"value")
    sink.send_all(account, TOPIC, 1, [(b"key", b"value")])
    sink.abandon()
    assert (account.sent, outcomes(account)) == (2, (0, 0, 2))


def test_a_record_that_the_producer_itself_refuses_has_failed(sink: KafkaSink) -> None:
    account = Account("events")
    sink.send(account, TOPIC, 0, b"key", bytes(2_000_000))
    assert (account.sent, outcomes(account)) == (1, (0, 1, 0))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, (0, 1, 0)),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, (0, 1, 0)),
        (KafkaError._UNKNOWN_TOPIC, (0, 1, 0)),
        (KafkaError._MSG_TIMED_OUT, (0, 0, 1)),
        (KafkaError.REQUEST_TIMED_OUT, (0, 0, 1)),
        (KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND, (0, 0, 1)),
        (KafkaError._TRANSPORT, (0, 0, 1)),
    ],
)
def test_a_delivery_report_is_a_failure_only_where_nothing_was_written(
    sink: KafkaSink, code: int, expected: tuple[int, int, int]
) -> None:
    account = Account("events")
    account.digests.append(0)
    sink._report(account, 0, KafkaError(code), None)
    assert outcomes(account) == expected
