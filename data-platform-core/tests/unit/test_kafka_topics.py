"""Topics: what contracts and topology require, and the changes that achieve it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from data_platform_core.contracts import Contract
from data_platform_core.kafka.topics import MIN_ISR, RETENTION, Kind, Topic, compare, shortfall, wanted_topics
from data_platform_core.settings import load_settings

pytestmark = pytest.mark.unit

WANTED = Topic("crm.orders.v1", 3, 3, {RETENTION: "1000", MIN_ISR: "2"})


def kinds(observed: Topic | None) -> list[Kind]:
    return [change.kind for change in compare([WANTED], {observed.name: observed} if observed else {})]


def test_each_contract_has_a_topic_and_a_dead_letter_topic(contracts: dict[str, Contract]) -> None:
    kafka = load_settings("admin", "local").kafka
    wanted = {topic.name: topic for topic in wanted_topics(kafka, contracts.values())}
    assert len(wanted) == 2 * len(contracts)
    orders, dead = wanted["crm.orders.v1"], wanted["crm.orders.v1.dlq"]
    assert orders.partitions == contracts["orders"].topic.partitions
    assert orders.replicas == dead.replicas == kafka.replication_factor
    assert orders.config[RETENTION] == str(contracts["orders"].topic.retention_hours * 3_600_000)
    assert orders.config[MIN_ISR] == dead.config[MIN_ISR] == str(kafka.min_insync_replicas)


def test_a_topic_as_required_needs_no_change() -> None:
    assert kinds(WANTED) == []


def test_other_settings_of_a_topic_are_left_alone() -> None:
    assert kinds(replace(WANTED, config={**WANTED.config, "segment.bytes": "1"})) == []


def test_a_missing_topic_is_created() -> None:
    assert kinds(None) == [Kind.CREATE]


def test_missing_partitions_are_added_with_a_note_about_order() -> None:
    (change,) = compare([WANTED], {WANTED.name: replace(WANTED, partitions=1)})
    assert change.kind is Kind.PARTITIONS
    assert change.detail.startswith("1 -> 3")
    assert "order per key" in change.detail


def test_a_differing_retention_is_shown_before_and_after() -> None:
    (change,) = compare([WANTED], {WANTED.name: replace(WANTED, config={RETENTION: "5", MIN_ISR: "2"})})
    assert (change.kind, change.detail) == (Kind.CONFIG, "retention.ms: 5 -> 1000")


def test_partitions_are_never_taken_away() -> None:
    (change,) = compare([WANTED], {WANTED.name: replace(WANTED, partitions=6)})
    assert change.kind is Kind.REFUSED
    assert "has 6 partitions, its contract says 3" in change.detail


@pytest.mark.parametrize("replicas", [1, 4])
def test_another_number_of_replicas_is_refused(replicas: int) -> None:
    (change,) = compare([WANTED], {WANTED.name: replace(WANTED, replicas=replicas)})
    assert change.kind is Kind.REFUSED
    assert f"has {replicas} replicas, topology says 3" in change.detail


def test_several_differences_are_several_changes() -> None:
    assert kinds(Topic(WANTED.name, 1, 1, {})) == [Kind.REFUSED, Kind.PARTITIONS, Kind.CONFIG]


def test_a_topic_as_required_or_with_more_of_anything_is_sufficient() -> None:
    assert shortfall(WANTED, WANTED) is None
    assert shortfall(WANTED, Topic(WANTED.name, 6, 4, {RETENTION: "5", MIN_ISR: "3"})) is None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, "does not exist; create it with `crm topics apply`"),
        (replace(WANTED, partitions=2), "has 2 partitions, its contract says 3; `crm topics apply` adds them"),
        (replace(WANTED, replicas=2), "has 2 replicas, topology says 3; reassign its partitions"),
        (replace(WANTED, config={MIN_ISR: "1"}), "has min.insync.replicas=1, topology says 2; `crm topics apply`"),
        (replace(WANTED, config={}), "has min.insync.replicas=None, topology says 2"),
    ],
)
def test_a_topic_that_promises_less_is_refused_with_what_corrects_it(found: Topic | None, expected: str) -> None:
    assert (shortfall(WANTED, found) or "").startswith(expected)
