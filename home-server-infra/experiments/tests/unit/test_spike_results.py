"""What the experiment computes from its samples: ages, peaks, drains, order, and the conclusion's sentences."""

from __future__ import annotations

import numpy as np
import pytest

from platform_experiments.spike.arms import ARMS, Arm
from platform_experiments.spike.conclusion import conclusions
from platform_experiments.spike.results import ArmResult, Order, Waits, order_of
from platform_experiments.spike.sampling import OldestWaiting, Sample

pytestmark = pytest.mark.unit

QUIET, PEAK = 100, 1000


def phase_at(second: int) -> str:
    return "baseline" if second < 20 else "hold" if second < 80 else "after"


def arm_result(arm: Arm, *, capacity: int, executors: int = 1, partitions: int = 3, **changes: object) -> ArmResult:
    """A spike of 60 s at PEAK records/s against a consumer that processes `capacity` records/s."""
    samples, produced, committed = [], 0, 0
    for second in range(600):
        phase = phase_at(second)
        produced += PEAK if phase == "hold" else QUIET
        committed = min(produced, committed + capacity)
        samples.append(
            Sample(
                at=float(second),
                phase=phase,
                produced=produced,
                committed=committed,
                lag_seconds=(produced - committed) / capacity,
                partitions=partitions,
                executors=executors,
                cpu={"driver": second * 0.5, "executors": second * 0.25 * executors, "kafka": second * 0.1},
            )
        )
    waits = Waits(np.arange(600.0), np.full(600, 2.0))
    values = {
        "arm": arm,
        "run_id": f"spike-{arm.name}",
        "samples": samples,
        "waits": waits,
        "order": Order(1000, 0, 0),
        "equations": {"A1": True, "A2": True},
        "accounts": {"events": dict.fromkeys(
            ("acknowledged", "bronze", "silver", "late", "dlq", "duplicates", "warehouse"), 7)},
    }  # fmt: skip
    return ArmResult(**{**values, **changes})  # type: ignore[arg-type]


def test_nothing_waits_when_all_is_committed() -> None:
    assert OldestWaiting().age(5.0, {0: 10, 1: 0}, {0: 10}) == 0.0


def test_the_age_is_counted_from_when_the_end_passed_the_committed_offset() -> None:
    oldest = OldestWaiting()
    for second in range(11):  # 10 records/s
        age = oldest.age(float(second), {0: second * 10}, {0: 25})
    assert age == pytest.approx(10 - 2.5)


def test_the_oldest_of_all_partitions_counts() -> None:
    oldest = OldestWaiting()
    for second in range(11):
        age = oldest.age(float(second), {0: second * 10, 1: second * 10}, {0: 100, 1: 50})
    assert age == pytest.approx(5.0)


def test_a_partition_without_a_commit_waits_from_its_first_record() -> None:
    oldest = OldestWaiting()
    oldest.age(0.0, {0: 0}, {})
    oldest.age(4.0, {0: 0, 3: 0}, {0: 0})
    oldest.age(6.0, {0: 0, 3: 10}, {0: 0})
    assert oldest.age(9.0, {0: 0, 3: 20}, {0: 0}) == pytest.approx(5.0)


def test_a_backlog_from_before_the_first_sample_is_at_least_as_old_as_it() -> None:
    oldest = OldestWaiting()
    oldest.age(0.0, {0: 500}, {0: 100})
    assert oldest.age(7.0, {0: 500}, {0: 100}) == pytest.approx(7.0)


def test_the_memory_of_ends_does_not_grow_while_the_consumer_keeps_up() -> None:
    oldest = OldestWaiting()
    for second in range(1000):
        oldest.age(float(second), {0: second}, {0: second})
    assert len(oldest._ends[0]) == 1


def test_peak_and_drain_of_a_slow_consumer() -> None:
    slow = arm_result(ARMS["baseline"], capacity=500)
    assert slow.peak_lag == 60 * (PEAK - 500)
    assert slow.rate_in("hold") == pytest.approx(PEAK)
    assert slow.rate_out == pytest.approx(500)
    assert slow.capacity == pytest.approx(500)
    # 30,000 records drain at 500 - 100 a second, until a second's worth of normal traffic is left.
    assert slow.drain_s == pytest.approx((30_000 - QUIET) / 400, abs=2)


def test_a_backlog_that_outlives_the_samples_was_not_drained() -> None:
    assert arm_result(ARMS["baseline"], capacity=110).drain_s is None


def test_cores_are_those_of_the_spike_and_its_drain() -> None:
    assert arm_result(ARMS["baseline"], capacity=500).cores("driver", "executors") == pytest.approx(0.75)


def test_one_failed_equation_fails_the_arm() -> None:
    assert not arm_result(ARMS["baseline"], capacity=500, equations={"A1": True, "A3": False}).accounted
    assert not arm_result(ARMS["baseline"], capacity=500, equations={}).accounted


def test_records_overtaken_by_a_newer_one_of_their_key_are_counted() -> None:
    keys = np.array([7, 7, 7, 8, 8])
    sent = np.array([1, 2, 3, 4, 5])
    partitions = np.array([0, 0, 5, 1, 1])
    commits = np.array([9, 9, 4, 6, 6])  # the third of key 7 arrived on the new partition, before the two older ones
    assert order_of(keys, sent, partitions, commits) == Order(keys=2, moved=1, overtaken=2)


def test_a_batch_keeps_the_order_of_its_records() -> None:
    keys, sent = np.array([7, 7, 8]), np.array([1, 2, 3])
    assert order_of(keys, sent, np.zeros(3, int), np.array([4, 4, 5])).overtaken == 0


def test_the_conclusion_follows_the_numbers() -> None:
    base = arm_result(ARMS["baseline"], capacity=500)
    split = arm_result(ARMS["minpartitions"], capacity=950)
    idle = arm_result(ARMS["executors"], capacity=500)
    said = " ".join(conclusions([base, split, idle]))
    assert "minpartitions works" in said
    assert "executors does not help here" in said
    assert "Spark asked for no second executor" in said
    assert "First choice: minpartitions" in said


def test_the_conclusion_turns_when_the_numbers_turn() -> None:
    base = arm_result(ARMS["baseline"], capacity=500)
    split = arm_result(ARMS["minpartitions"], capacity=500)
    more = arm_result(ARMS["executors"], capacity=1200, executors=3)
    said = " ".join(conclusions([base, split, more]))
    assert "minpartitions does not help here" in said
    assert "executors works" in said
    assert "First choice: executors" in said


def test_a_baseline_that_keeps_up_is_reported_as_such() -> None:
    said = conclusions([arm_result(ARMS["baseline"], capacity=2000)])
    assert "kept up" in said[0]


def test_without_a_baseline_nothing_is_claimed() -> None:
    assert "no baseline" in conclusions([arm_result(ARMS["all"], capacity=900)])[0]
