"""What a resumed chunk sends: what the log lacks, and never behind a later record of its key."""

from __future__ import annotations

import pytest

from data_generator.backfill.tail import Tail
from data_generator.backfill.targets import KafkaTarget
from data_generator.ledger import Account
from data_generator.model import Send
from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.settings import KafkaSettings

pytestmark = pytest.mark.unit


class Sent:
    """Replaces the producer: records the numbers that are sent."""

    def __init__(self) -> None:
        self.seqs: list[int] = []

    def send(self, account: Account, topic: str, seq: int, key: bytes, value: bytes) -> None:
        self.seqs.append(seq)


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def target(contracts: dict[str, Contract], sent: Sent) -> KafkaTarget:
    """A target whose log has sends 3 (key a) and 5 (key b); no broker is there."""
    nowhere = KafkaSettings(bootstrap_servers="127.0.0.1:1", replication_factor=1, min_insync_replicas=1)
    found = KafkaTarget(nowhere, contracts, "a-run", 0)
    tail = Tail()
    tail.take("crm.orders.v1", 0, 10, 3, b"a")
    tail.take("crm.orders.v1", 1, 20, 5, b"b")
    found._tails = {"orders": tail}
    found._sink = sent  # type: ignore[assignment]
    return found


def test_records_in_the_log_are_not_resent_and_are_acknowledged_at_their_offset(
    target: KafkaTarget, sent: Sent, contracts: dict[str, Contract]
) -> None:
    account = Account("orders")
    for seq, key in ((3, b"a"), (5, b"b")):
        target.send(account, contracts["orders"], Send(1, seq, key, b"v", 0))
    assert sent.seqs == []
    assert (list(account.seqs), list(account.partitions), list(account.offsets)) == ([3, 5], [0, 1], [10, 20])
    assert account.sent == 6


def test_what_the_log_lacks_is_sent(target: KafkaTarget, sent: Sent, contracts: dict[str, Contract]) -> None:
    for seq, key in ((4, b"a"), (6, b"b"), (7, b"c")):
        target.send(Account("orders"), contracts["orders"], Send(1, seq, key, b"v", 0))
    assert sent.seqs == [4, 6, 7]


def test_a_hole_before_a_later_record_of_its_key_is_refused(
    target: KafkaTarget, sent: Sent, contracts: dict[str, Contract]
) -> None:
    with pytest.raises(ServiceError, match=r"has send 5 of key b'b' and not send 4 before it"):
        target.send(Account("orders"), contracts["orders"], Send(1, 4, b"b", b"v", 0))
    assert sent.seqs == []
