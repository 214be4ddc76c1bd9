"""A checkpoint and its tables must be of one history; the logs are those that Spark keeps, on local disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from data_platform_core.errors import ServiceError
from data_platform_core.streaming.ingest.checkpoint import Checkpoint

pytestmark = pytest.mark.spark

BRONZE, SILVER = "s3a://lake/bronze/events", "s3a://lake/silver/events"


def checkpoint(spark: SparkSession, folder: Path, finished: int, planned: int) -> Checkpoint:
    """The logs of a query that finished and planned batches up to these; -1 for no log."""
    for log, newest in (("commits", finished), ("offsets", planned)):
        for batch in range(newest + 1):
            (folder / log).mkdir(parents=True, exist_ok=True)
            (folder / log / str(batch)).write_text(f'v1\n{{"batch":{batch}}}\n{{"crm.events.v1":{{"0":{batch * 10}}}}}')
            (folder / log / f".{batch}.crc").write_bytes(b"")  # Hadoop leaves these on local disk
    return Checkpoint(spark, str(folder))


@pytest.mark.parametrize("bronze", [4, 5])
@pytest.mark.parametrize("silver", [4, 5])
def test_a_table_may_lack_the_batch_that_was_planned_and_not_finished(
    spark: SparkSession, tmp_path: Path, bronze: int, silver: int
) -> None:
    checkpoint(spark, tmp_path, finished=4, planned=5).refuse_other_history({BRONZE: bronze, SILVER: silver})


@pytest.mark.parametrize(("batch", "why"), [(3, "an old table"), (6, "an old checkpoint"), (-1, "a recreated table")])
def test_a_table_of_another_history_is_refused_with_what_to_do(
    spark: SparkSession, tmp_path: Path, batch: int, why: str
) -> None:
    logs = checkpoint(spark, tmp_path, finished=4, planned=5)
    with pytest.raises(ServiceError) as refused:
        logs.refuse_other_history({BRONZE: 5, SILVER: batch})
    assert str(refused.value) == (
        f"checkpoint {tmp_path} (batches finished to 4, planned to 5) and table {SILVER} (batches to {batch}) are not "
        "of one history: starting would lose or repeat data; restore the older one, or move checkpoint and both "
        "tables away to ingest from the beginning"
    ), why


def test_the_first_start_has_no_history_to_compare(spark: SparkSession, tmp_path: Path) -> None:
    logs = checkpoint(spark, tmp_path, finished=-1, planned=-1)
    logs.refuse_other_history({BRONZE: -1, SILVER: -1})
    assert logs.finished_offsets() is None


@pytest.mark.parametrize("batch", [-1, 0])
def test_the_first_batch_may_be_under_way(spark: SparkSession, tmp_path: Path, batch: int) -> None:
    checkpoint(spark, tmp_path, finished=-1, planned=0).refuse_other_history({BRONZE: batch})


@pytest.mark.parametrize("batch", [0, 7])
def test_a_lost_checkpoint_is_refused_never_restarted(spark: SparkSession, tmp_path: Path, batch: int) -> None:
    with pytest.raises(ServiceError, match=f"is gone but its table {BRONZE} is not: .*restore the checkpoint"):
        checkpoint(spark, tmp_path, finished=-1, planned=-1).refuse_other_history({BRONZE: batch})


def test_only_batches_count_in_a_log(spark: SparkSession, tmp_path: Path) -> None:
    logs = checkpoint(spark, tmp_path, finished=4, planned=5)
    (tmp_path / "offsets" / "9.compact").write_text("")
    (tmp_path / "commits" / "6.7c2f.tmp").write_text("")
    logs.refuse_other_history({BRONZE: 5})


def test_a_log_without_a_batch_is_as_none(spark: SparkSession, tmp_path: Path) -> None:
    for log in ("offsets", "commits"):
        (tmp_path / log).mkdir()
    Checkpoint(spark, str(tmp_path)).refuse_other_history({BRONZE: -1})


def test_offsets_are_those_of_the_last_finished_batch(spark: SparkSession, tmp_path: Path) -> None:
    assert checkpoint(spark, tmp_path, finished=0, planned=1).finished_offsets() == '{"crm.events.v1":{"0":0}}'
    assert checkpoint(spark, tmp_path / "later", finished=11, planned=12).finished_offsets() == (
        '{"crm.events.v1":{"0":110}}'
    )


def test_a_recreated_topic_is_refused_however_long_it_has_grown(spark: SparkSession, tmp_path: Path) -> None:
    logs = checkpoint(spark, tmp_path, finished=4, planned=5)
    logs.refuse_other_topic("crm.events.v1", "first")  # one from before ids were kept
    logs.refuse_other_topic("crm.events.v1", "first")
    with pytest.raises(ServiceError) as refused:
        logs.refuse_other_topic("crm.events.v1", "second")
    assert str(refused.value) == (
        f"topic crm.events.v1 was deleted and recreated: checkpoint {tmp_path} has offsets of the one with id first, "
        "Kafka's has second; starting would skip or repeat data; move checkpoint and both tables away to ingest from "
        "the beginning"
    )
