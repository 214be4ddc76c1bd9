"""The writer's lease on the real object store: one of many wins, a dead holder is replaced, a live one keeps it."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import urllib3

from data_platform_core.errors import LeaseHeldError, LeaseLostError, ServiceError
from data_platform_core.lake.lease import WriterLease, take_away, this_person, this_process
from data_platform_core.lake.lease_record import LeaseRecord
from data_platform_core.lake.lease_store import LeaseStore
from data_platform_core.lake.process_marks import process_mark
from data_platform_core.naming import LEASE_KEY
from data_platform_core.object_store import put_if, s3_client
from data_platform_core.settings import LeaseSettings, ObjectStoreSettings, Settings

pytestmark = pytest.mark.integration

SettingsOf = Callable[[str], Settings]
#: The shortest that is allowed: tests wait for it.
BRIEF = LeaseSettings(ttl_s=6)
WRITERS = 16


@pytest.fixture
def store(settings: SettingsOf) -> Iterator[ObjectStoreSettings]:
    """The lake's store, in which no process has held the lease yet."""
    found = settings("streaming").object_store
    client = s3_client(found, urllib3.PoolManager())
    client.remove_object(found.lake_bucket, LEASE_KEY)
    yield found
    client.remove_object(found.lake_bucket, LEASE_KEY)


def lease_of(store: ObjectStoreSettings, job: str, ttl: LeaseSettings = BRIEF, **changed: object) -> WriterLease:
    return WriterLease(LeaseStore(store, ttl), this_process(job, ttl).model_copy(update=changed))


def elsewhere(store: ObjectStoreSettings, job: str, ttl: LeaseSettings = BRIEF) -> WriterLease:
    """A holder on another machine, of whose processes nothing can be proven here."""
    return lease_of(store, job, ttl, kernel="another-boot/pid:[1]")


def at_once(puts: list[Callable[[], str | None]]) -> list[str | None]:
    """The results of puts that begin at the same moment."""
    ready = threading.Barrier(len(puts))

    def run(put: Callable[[], str | None]) -> str | None:
        ready.wait()
        return put()

    with ThreadPoolExecutor(len(puts)) as pool:
        return list(pool.map(run, puts))


class TestConditionalPuts:
    """What the lease requires of a store. MinIO, Amazon S3 and Ceph document both conditions."""

    def puts(self, store: ObjectStoreSettings, round_: int, replaces: str | None) -> list[Callable[[], str | None]]:
        """Different contents, each by a client of its own."""

        def put(number: int) -> str | None:
            pool = urllib3.PoolManager()
            content = f"{round_}: {number}".encode()
            return put_if(s3_client(store, pool), pool, store.lake_bucket, LEASE_KEY, content, replaces)

        return [partial(put, number) for number in range(WRITERS)]

    @pytest.mark.parametrize("round_", range(5))
    def test_of_many_puts_where_there_is_nothing_one_wins(self, store: ObjectStoreSettings, round_: int) -> None:
        assert sum(etag is not None for etag in at_once(self.puts(store, round_, None))) == 1

    def test_of_many_puts_in_place_of_one_object_one_wins(self, store: ObjectStoreSettings) -> None:
        etag = None
        for round_ in range(20):
            (etag,) = [found for found in at_once(self.puts(store, round_, etag)) if found is not None]

    def test_nothing_is_put_in_place_of_an_object_that_is_gone(self, store: ObjectStoreSettings) -> None:
        assert self.puts(store, 0, "0" * 32)[0]() is None


def test_of_many_processes_that_request_it_one_holds_the_lease(store: ObjectStoreSettings) -> None:
    leases = [elsewhere(store, f"writer {number}") for number in range(WRITERS)]
    refused: list[str] = []

    def acquire(lease: WriterLease) -> str | None:
        try:
            lease.acquire()
        except LeaseHeldError as error:
            refused.append(str(error))
            return None
        lease.keep(lambda explain: None)
        return "held"

    try:
        answers = at_once([partial(acquire, lease) for lease in leases])
    finally:
        for lease in leases:
            lease.release()
    (winner,) = [lease for lease, answer in zip(leases, answers, strict=True) if answer]
    found = LeaseStore(store, BRIEF).read()
    assert found is not None
    assert winner.epoch == found.record.epoch == 1
    assert len(refused) == WRITERS - 1
    assert all(found.record.holder in line for line in refused)


def test_a_second_process_is_refused_while_the_first_renews_with_holder_time_and_advice(
    store: ObjectStoreSettings,
) -> None:
    first = elsewhere(store, "crm stream run")
    first.acquire()
    first.keep(lambda explain: None)
    try:
        with pytest.raises(LeaseHeldError) as refused:
            elsewhere(store, "crm lake import").acquire()
    finally:
        first.release()
    line = str(refused.value)
    assert "crm stream run, process " in line
    assert "(epoch 1, since 20" in line
    assert "`crm lake lease --take-over`" in line
    assert "\n" not in line


def test_a_released_lease_is_acquired_at_once_by_the_next_epoch(store: ObjectStoreSettings) -> None:
    first, second = elsewhere(store, "first"), elsewhere(store, "second")
    first.acquire()
    first.release()
    second.acquire()
    assert (second.epoch, second.fence_token) == (2, None)


def test_a_holder_on_this_machine_that_was_killed_is_replaced_at_once(store: ObjectStoreSettings) -> None:
    day = LeaseSettings(ttl_s=600)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        mark = process_mark(process.pid)
        assert mark is not None
        first = lease_of(store, "first", day, processes=(mark,))
        first.acquire()
    finally:
        process.kill()  # a zombie until it is waited for, which counts as dead
    second = lease_of(store, "second", day)
    stopping = threading.Event()
    timer = threading.Timer(60, stopping.set)  # for a broken test to end
    timer.start()
    try:
        assert second.acquire(stopping), "waited for a holder that is dead"
    finally:
        timer.cancel()
        process.wait()
    assert (second.epoch, second.fence_token) == (2, None)


def test_a_holder_elsewhere_that_stops_renewing_is_replaced_after_its_time_and_loses(
    store: ObjectStoreSettings,
) -> None:
    ticks = itertools.count()
    first = elsewhere(store, "first")
    first.acquire()  # and is paused: it does not renew
    second = WriterLease(
        LeaseStore(store, BRIEF), this_process("second", BRIEF), clock=lambda: float(next(ticks))
    )  # one read per second
    second.acquire()
    assert second.epoch == 2
    assert second.fence_token is not None, "the first may wake in the middle of a write"
    with pytest.raises(LeaseLostError) as error:
        first.check()
    assert "second, process" in str(error.value)
    assert "(epoch 2, since" in str(error.value)
    second.fenced()
    second.check()
    assert second.fence_token is None


def test_a_holder_whose_lease_was_revoked_exits_and_the_next_one_fences(store: ObjectStoreSettings) -> None:
    held, lost = elsewhere(store, "crm stream run"), threading.Event()
    reasons: list[str] = []

    def on_lost(explain: Callable[[], LeaseLostError]) -> None:
        reasons.append(str(explain()))
        lost.set()

    held.acquire()
    held.keep(on_lost)
    before = take_away(LeaseStore(store, BRIEF), this_person(BRIEF))
    assert isinstance(before, LeaseRecord)
    assert before.epoch == 1
    assert lost.wait(30), "the holder did not notice when it renewed"
    assert "taken by" in reasons[0]
    assert "`crm lake lease --take-over`" in reasons[0]
    after = elsewhere(store, "crm stream run")
    after.acquire()
    assert after.epoch == 3
    assert after.fence_token is not None


def test_a_free_lease_is_not_revoked(store: ObjectStoreSettings) -> None:
    assert take_away(LeaseStore(store, BRIEF), this_person(BRIEF)) is None


def test_a_lease_that_was_blocked_is_refused_with_its_reason_until_a_person_clears_it(
    store: ObjectStoreSettings,
) -> None:
    first = elsewhere(store, "crm stream run")
    first.acquire()
    first.block("table bronze/orders, version 7: written under epoch 1")
    with pytest.raises(
        ServiceError, match=r"bronze/orders, version 7: .*; then clear this with `crm lake lease --take"
    ):
        elsewhere(store, "crm stream run").acquire()
    assert take_away(LeaseStore(store, BRIEF), this_person(BRIEF)) is not None
    assert elsewhere(store, "crm stream run").acquire()
