"""Lag in records, the latency histogram, and how Spark's offsets are read."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from data_platform_core.streaming.observe.lag import records_behind, seconds_behind
from data_platform_core.streaming.observe.metrics import LATENCY_BOUNDS, LatencyHistogram
from data_platform_core.streaming.observe.progress import places

pytestmark = pytest.mark.unit

TOPIC = "crm.events.v1"


def test_lag_is_the_end_minus_what_was_committed() -> None:
    behind = records_behind({}, {(TOPIC, 0): 120, (TOPIC, 1): 7}, {(TOPIC, 0): 100, (TOPIC, 1): 7})
    assert behind == {(TOPIC, 0): (100, 20), (TOPIC, 1): (7, 0)}


def test_a_new_partition_waits_from_its_beginning() -> None:
    behind = records_behind({(TOPIC, 3): 0}, {(TOPIC, 0): 5, (TOPIC, 3): 9}, {(TOPIC, 0): 5})
    assert behind[TOPIC, 3] == (0, 9)


def test_a_new_partition_without_records_has_no_lag() -> None:
    assert records_behind({(TOPIC, 3): 0}, {(TOPIC, 3): 0}, {}) == {(TOPIC, 3): (0, 0)}


def test_what_kafka_has_dropped_does_not_wait() -> None:
    assert records_behind({(TOPIC, 0): 900}, {(TOPIC, 0): 1000}, {}) == {(TOPIC, 0): (900, 100)}


def test_lag_is_never_negative() -> None:
    """The end offset was read just before a batch finished, or the topic was recreated."""
    assert records_behind({}, {(TOPIC, 0): 5}, {(TOPIC, 0): 8}) == {(TOPIC, 0): (8, 0)}


def test_lag_in_seconds_is_the_age_of_the_oldest_record() -> None:
    assert seconds_behind(1_772_000_090.5, 1_772_000_000_000) == 90.5


def test_where_nothing_waits_or_a_clock_is_ahead_no_seconds_are_behind() -> None:
    assert seconds_behind(1_772_000_000.0, None) == 0
    assert seconds_behind(1_772_000_000.0, 1_772_000_001_000) == 0


def test_sparks_offsets_are_read_by_partition() -> None:
    assert places('{"crm.events.v1":{"0":5,"11":7}}') == {(TOPIC, 0): 5, (TOPIC, 11): 7}
    assert places({TOPIC: {"0": 5, "11": 7}}) == {(TOPIC, 0): 5, (TOPIC, 11): 7}
    assert places(None) == places("null") == {}


def exposed(*batches: list[float]) -> dict[str, float]:
    registry = CollectorRegistry()
    histogram = LatencyHistogram(registry)
    for waits in batches:
        histogram.observe("events", np.array(waits))
    lines = generate_latest(registry).decode().splitlines()
    return dict(
        (name, float(value)) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    )


def bucket(bound: str) -> str:
    return f'crm_streaming_latency_seconds_bucket{{entity="events",le="{bound}"}}'


def test_each_record_is_in_every_bucket_that_holds_it() -> None:
    found = exposed([0.1, 0.25, 0.3, 700.0])
    assert found[bucket("0.25")] == 2
    assert found[bucket("0.5")] == found[bucket("600.0")] == 3
    assert found[bucket("+Inf")] == found['crm_streaming_latency_seconds_count{entity="events"}'] == 4
    assert found['crm_streaming_latency_seconds_sum{entity="events"}'] == pytest.approx(700.65)


def test_batches_add_up_and_an_empty_one_changes_nothing() -> None:
    assert exposed([1.0], [], [2.0, 2.0])[bucket("+Inf")] == 3


def test_a_clock_that_is_behind_counts_as_no_wait() -> None:
    found = exposed([-5.0])
    assert found[bucket("0.25")] == 1
    assert found['crm_streaming_latency_seconds_sum{entity="events"}'] == 0


def test_buckets_reach_from_a_quarter_second_to_ten_minutes() -> None:
    assert (LATENCY_BOUNDS[0], LATENCY_BOUNDS[-1]) == (0.25, 600)
    assert list(LATENCY_BOUNDS) == sorted(LATENCY_BOUNDS)
