"""Which process may acquire the lease, what the next record has, and how a process is identified."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from data_platform_core.access.matrix import StoreAction, load_matrix
from data_platform_core.access.object_store import policies
from data_platform_core.errors import LeaseHeldError, LeaseLostError
from data_platform_core.lake.lease_record import (
    GIVES_UP_AFTER,
    RENEWALS_PER_TTL,
    LeaseRecord,
    is_free,
    successor,
    taken_away,
)
from data_platform_core.lake.marks import batch_mark, batch_of, epoch_of
from data_platform_core.lake.process_marks import ProcessMark, all_ended, kernel_mark, process_mark
from data_platform_core.naming import LEASE_KEY
from data_platform_core.settings import LeaseSettings
from data_platform_core.topology import Buckets

pytestmark = pytest.mark.unit

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def record(holder: str, epoch: int = 0, **values: object) -> LeaseRecord:
    known = {"token": holder, "since": NOON, "renewed": NOON, "ttl_s": 30.0}
    return LeaseRecord.model_validate({"epoch": epoch, "holder": holder, **known, **values})


HELD = record("first", epoch=7)


class TestWhoMayTakeIt:
    def test_any_process_if_it_was_never_held_or_was_released(self) -> None:
        assert is_free(None, 0.0, ended=False)
        assert is_free(record("first", released=True), 0.0, ended=False)

    def test_no_process_before_it_was_watched_for_a_whole_time_to_live(self) -> None:
        assert not is_free(HELD, 29.9, ended=False)
        assert is_free(HELD, 30.0, ended=False)

    def test_the_holders_time_to_live_counts_and_not_the_candidates(self) -> None:
        assert not is_free(record("patient", ttl_s=600), 599.0, ended=False)

    def test_a_process_that_can_prove_that_its_holder_has_ended(self) -> None:
        assert is_free(HELD, 0.0, ended=True)

    def test_a_holder_exits_before_another_may_take_over_and_after_two_failed_renewals(self) -> None:
        assert 2 / RENEWALS_PER_TTL < GIVES_UP_AFTER < 1


class TestTheNextRecord:
    def test_the_first_holder_has_epoch_1_and_no_one_to_fence(self) -> None:
        first = successor(None, record("first"), ended=False)
        assert (first.epoch, first.fence_due) == (1, False)

    @pytest.mark.parametrize(
        ("before", "ended", "fence"),
        [
            (HELD, False, True),
            (HELD, True, False),
            (HELD.model_copy(update={"released": True}), False, False),
            (HELD.model_copy(update={"released": True, "fence_due": True}), False, True),
            (HELD.model_copy(update={"fence_due": True}), True, True),
        ],
        ids=["expired", "ended", "released", "released-unfenced", "ended-unfenced"],
    )
    def test_a_writer_that_may_still_run_is_fenced_by_its_successor(
        self, before: LeaseRecord, ended: bool, fence: bool
    ) -> None:
        after = successor(before, record("second"), ended)
        assert (after.epoch, after.holder, after.fence_due) == (8, "second", fence)
        assert not after.released

    def test_a_revoked_lease_is_free_and_fenced(self) -> None:
        after = taken_away(HELD.model_copy(update={"blocked": "two writers"}), record("a person"))
        assert (after.epoch, after.released, after.fence_due, after.blocked) == (8, True, True, "")
        assert is_free(after, 0.0, ended=False)

    def test_no_two_records_of_a_holder_are_equal_and_both_are_its_own(self) -> None:
        again = HELD.renewed_at(NOON)
        assert again.model_dump_json() != HELD.model_dump_json()
        assert again.is_of(HELD)
        assert not record("second", epoch=7).is_of(HELD)

    def test_a_record_of_a_newer_version_is_read(self) -> None:
        assert LeaseRecord.model_validate({**HELD.model_dump(), "zone": "b"}) == HELD


class TestProcesses:
    def test_one_that_runs_is_not_ended_and_one_that_was_killed_is(self) -> None:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        mark = process_mark(process.pid)
        assert mark is not None
        assert not all_ended(kernel_mark(), [mark])
        process.kill()
        process.wait()
        assert all_ended(kernel_mark(), [mark])

    def test_one_of_several_that_runs_is_enough(self) -> None:
        own = process_mark(os.getpid())
        assert own is not None
        gone = own.model_copy(update={"started": own.started - 1})
        assert all_ended(kernel_mark(), [gone]), "the number is used again, by a process that began later"
        assert not all_ended(kernel_mark(), [gone, own])

    @pytest.mark.parametrize("kernel", ["", "another-boot/pid:[1]"])
    def test_nothing_is_proven_of_another_machine_or_container(self, kernel: str) -> None:
        assert not all_ended(kernel, [ProcessMark(pid=2**22, started=1)])

    def test_nothing_is_proven_of_a_holder_that_named_no_process(self) -> None:
        assert not all_ended(kernel_mark(), [])


def test_a_tag_has_the_epoch_under_which_it_was_written() -> None:
    mark = batch_mark("ingest_events", 7, epoch=3)
    assert (epoch_of(mark), batch_of(mark, "ingest_events")) == (3, 7)


@pytest.mark.parametrize("note", [None, "", "by hand", "[1]", '{"query": "ingest_events", "batch": 7}'])
def test_a_note_from_before_the_lease_has_no_epoch(note: str | None) -> None:
    assert epoch_of(note) == 0


def test_both_errors_are_of_a_service_that_is_not_ours_to_use() -> None:
    assert LeaseHeldError.exit_code == LeaseLostError.exit_code == 3


@pytest.mark.parametrize("seconds", [0, 5.9, 601])
def test_an_impossible_time_to_live_is_refused(seconds: float) -> None:
    with pytest.raises(ValidationError):
        LeaseSettings(ttl_s=seconds)


def test_only_the_stream_may_write_the_lease() -> None:
    matrix, buckets = load_matrix(), Buckets(lake="lake", ledger="evidence")
    writers = {name for name, access in matrix.object_store.items() if StoreAction.WRITE in access.lake}
    assert writers == {"streaming"}
    key = f"arn:aws:s3:::{buckets.lake}/{LEASE_KEY}"
    reaching = {
        name
        for name, document in policies(matrix, buckets).items()
        for statement in document["Statement"]
        if "s3:PutObject" in statement["Action"]
        for resource in statement["Resource"]
        if key.startswith(resource.removesuffix("*"))
    }
    assert reaching == {"crm-streaming"}
