"""Which versions of two tables belong together, and that a checkpoint taken back never skips a record."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from typer.testing import CliRunner

from data_platform_core.cli import app
from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.lake.lineage import Commit
from data_platform_core.lake.marks import batch_mark
from data_platform_core.streaming.ingest import restore
from data_platform_core.streaming.ingest.checkpoint import Checkpoint, of_one_history
from data_platform_core.streaming.ingest.restore import Target, find_target, require_retained
from data_platform_core.streaming.ingest.rewind import COMMITS, OFFSETS, ends, steps, with_ends

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOPIC, QUERY, IMPORT = "crm.orders.v1", "ingest_orders", "import_orders/history"


#: What the first letter of a commit's word says; the number after it is the batch.
KINDS = {"b": ("WRITE", QUERY), "i": ("WRITE", IMPORT), "c": ("OPTIMIZE", QUERY)}


def log(text: str) -> list[Commit]:
    """A table's commits, a word each: `b3` batch 3, `i0` the import's batch 0, `c3` a compaction after batch 3, `r2>5`
    a restore to version 2 whose newest batch is 5, `r2` one by other means, `x` a commit of somebody else. `@4` is no
    commit: what follows has that epoch."""
    commits: list[Commit] = []
    epoch = 1
    for word in text.split():
        kind, _, batch = word[1:].partition(">")
        if word[0] == "@":
            epoch = int(word[1:])
        elif word[0] == "r":
            mark = batch_mark(QUERY, int(batch), epoch) if batch else None
            commits.append(Commit(len(commits), NOON, "RESTORE", mark, int(kind)))
        elif word[0] in KINDS:
            operation, query = KINDS[word[0]]
            commits.append(Commit(len(commits), NOON, operation, batch_mark(query, int(kind), epoch)))
        else:
            commits.append(Commit(len(commits), NOON, "UPDATE"))
    return commits


@pytest.fixture
def orders(contracts: dict[str, Contract]) -> Contract:
    return contracts["orders"]


@pytest.mark.unit
class TestTarget:
    @pytest.mark.parametrize(
        ("silver", "bronze", "version", "found"),
        [
            ("x b0 b1 b2", "x b0 b1 b2", 2, Target(2, 2, 1, ())),
            ("x b0 c0 b1 b2", "x b0 b1 c1 b2", 2, Target(2, 1, 0, ())),
            ("x b0 b1 c0 b2", "x b0 b1 b2", 3, Target(3, 2, 1, ())),
            ("x b0 b1 x b2", "x b0 b1 b2", 3, Target(3, 2, 1, ())),
            ("x b0 i0 i1 b1", "x b0 i0 i1 b1", 4, Target(4, 4, 1, ())),
            ("x b0 i0 i1 b1", "x b0 i0 i1 b1", 2, Target(2, 2, 0, ("history",))),
            ("x b0 i0 i1 b1", "x b0 i0 i1 b1", 1, Target(1, 1, 0, ("history",))),
            ("x b0 b1 r1", "x b0 b1", 3, Target(3, 1, 0, ())),
        ],
        ids=["same versions", "compacted apart", "compacted with an old mark", "changed by hand after the batch",
             "after an import", "within an import", "before an import", "silver was restored by other means"],
    )  # fmt: skip
    def test_both_tables_end_with_the_same_batch(
        self, orders: Contract, silver: str, bronze: str, version: int, found: Target
    ) -> None:
        assert find_target(orders, log(silver), log(bronze), version) == found

    def test_a_batch_that_a_paused_writer_wrote_again_counts_where_it_came_first(self, orders: Contract) -> None:
        assert find_target(orders, log("x b0 b1 b2 b1"), log("x b0 b1 b2 b1"), 2) == Target(2, 2, 1, ())

    def test_after_a_restore_a_number_means_the_batch_of_that_time(self, orders: Contract) -> None:
        """Batches 1 and 2 of before (versions 2, 3) are others than those of afterwards (5, 6)."""
        silver, bronze = log("x b0 b1 b2 @2 r1>0 @3 b1 b2"), log("x b0 b1 c1 b2 @2 r1>0 @3 b1 b2")
        assert find_target(orders, silver, bronze, 3) == Target(3, 4, 2, ())
        assert find_target(orders, silver, bronze, 2) == Target(2, 2, 1, ())
        assert find_target(orders, silver, bronze, 5) == Target(5, 6, 1, ())
        assert find_target(orders, silver, bronze, 4) == Target(4, 1, 0, ()), "as the restore left it"

    def test_a_restore_that_ended_after_one_table_is_finished_by_another(self, orders: Contract) -> None:
        assert find_target(orders, log("x b0 b1 b2"), log("x b0 b1 b2 @2 r2>1"), 2) == Target(2, 2, 1, ())
        silver, bronze = log("x b0 b1 b2 @3 r2>1"), log("x b0 b1 b2 @2 r2>1 @3 r2>1")
        assert find_target(orders, silver, bronze, 4) == Target(4, 2, 1, ())

    @pytest.mark.parametrize(
        ("silver", "bronze", "version"),
        [
            ("x b0 b1", "x b0", 2),
            ("x b0 b1 r1 b1", "x b0 b1", 4),
            ("x b0 b1 r1 b1", "x b0 b1 x r1 b1", 4),
            ("x b0 i0", "x i0 b0", 2),
        ],
        ids=["killed between the two commits", "silver restored by other means", "both, perhaps not to one point",
             "an import between the two commits"],
    )  # fmt: skip
    def test_what_has_no_counterpart_is_refused(self, orders: Contract, silver: str, bronze: str, version: int) -> None:
        with pytest.raises(ServiceError, match=r"table bronze/orders has no version that ends with batch \d"):
            find_target(orders, log(silver), log(bronze), version)

    @pytest.mark.parametrize("silver", ["x", "x i0"], ids=["empty", "an import only"])
    def test_a_version_without_a_batch_of_the_stream_is_refused(self, orders: Contract, silver: str) -> None:
        with pytest.raises(ServiceError, match=r"table silver/orders has no batch of the stream at version \d"):
            find_target(orders, log(silver), log(silver), len(log(silver)) - 1)


@pytest.mark.unit
class TestRetention:
    def test_kafka_must_have_every_record_from_there_on(self) -> None:
        require_retained(TOPIC, {0: 10, 1: 0}, {0: (10, 20), 1: (0, 0)})
        with pytest.raises(ServiceError) as refused:
            require_retained(TOPIC, {0: 10, 1: 3}, {0: (10, 20), 1: (4, 9)})
        assert str(refused.value).startswith(
            "topic crm.orders.v1, partition 1: the stream would read from offset 3, and Kafka's retention has deleted "
            "what is before 4: up to 1 records would be lost, so nothing was changed; choose a later version"
        )

    def test_a_topic_that_has_less_than_bronze_is_another_one(self) -> None:
        with pytest.raises(ServiceError, match="bronze has records up to offset 10, Kafka's next is 4"):
            require_retained(TOPIC, {0: 10}, {0: (0, 4)})


@pytest.mark.unit
class TestCommand:
    @pytest.fixture
    def restored(self, orders: Contract, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Versions that were gone back to; none is really."""
        went: list[int] = []
        found = restore.Plan(orders, Target(12, 11, 7, ("history",)), {0: 5}, 1_234, "")
        monkeypatch.setattr(restore, "plan", lambda _settings, _contract, _wanted: found)
        monkeypatch.setattr(restore, "restore", lambda _settings, _contract, version: went.append(version))
        return went

    def test_it_says_what_it_does_and_goes_back_after_a_yes(self, restored: list[int]) -> None:
        done = CliRunner().invoke(app, ["--env", "local", "lake", "restore", "orders", "2026-03-01T12:00", "--yes"])
        assert done.output.splitlines() == [
            "silver/orders goes back to version 12, bronze/orders to 11: both end with batch 7",
            "the stream reads 1,234 offsets of crm.orders.v1 again",
            "afterwards start, in this order: the stream, crm lake import --run-id history, crm load --rebuild, "
            "crm dbt build --full-refresh",
            "orders is at batch 7; `crm lake history orders` shows it",
        ]
        assert restored == [12]

    def test_without_a_terminal_nobody_says_yes(self, restored: list[int]) -> None:
        done = CliRunner().invoke(app, ["--env", "local", "lake", "restore", "orders", "12"])
        assert isinstance(done.exception, ConfigurationError)
        assert "standard input is no terminal, so nobody can answer; add --yes" in str(done.exception)
        assert restored == []


class Logs:
    """A checkpoint's two logs in memory."""

    def __init__(self, finished: Iterable[int], planned: Iterable[int]) -> None:
        self.files = {(COMMITS, batch): "v1\n{}" for batch in finished}
        self.files |= {(OFFSETS, batch): planned_file(batch * 10) for batch in planned}

    def batches(self, log: str) -> list[int]:
        return sorted(batch for name, batch in self.files if name == log)

    def read(self, log: str, batch: int) -> str:
        return self.files[log, batch]

    def write(self, log: str, batch: int, text: str) -> None:
        self.files[log, batch] = text

    def delete(self, log: str, batch: int) -> None:
        del self.files[log, batch]

    def newest(self, log: str) -> int:
        return max(self.batches(log), default=-1)


def planned_file(offset: int) -> str:
    return f'v1\n{{"batchWatermarkMs":0,"conf":{{"a":"b"}}}}\n{{"{TOPIC}":{{"0":{offset}}}}}'


@pytest.mark.unit
class TestOffsets:
    def test_ends_are_read_and_written_and_the_rest_stays(self) -> None:
        text = with_ends(planned_file(7), TOPIC, {10: 3, 0: 9})
        assert text == f'v1\n{{"batchWatermarkMs":0,"conf":{{"a":"b"}}}}\n{{"{TOPIC}":{{"0":9,"10":3}}}}'
        assert ends(text, TOPIC) == {0: 9, 10: 3}

    @pytest.mark.parametrize("text", ["", "v1", "v1\n{}\n-", 'v1\n{}\n{"other":{"0":1}}'])
    def test_what_is_no_offset_of_the_topic_is_one_line(self, text: str) -> None:
        with pytest.raises(ServiceError, match=r"a checkpoint's offsets are not of crm\.orders\.v1"):
            ends(text, TOPIC)


BATCH, WANTED = 5, 1_000
#: By name: the newest batches finished and planned before the first step, and the first one that is kept of both.
BEFORE = {
    "stopped": (8, 8, 0),
    "killed within a batch": (8, 9, 0),
    "batch no longer kept": (8, 9, 7),
    "behind, after an undone restore": (3, 4, 0),
    "at the batch": (5, 5, 0),
    "killed within the batch after it": (5, 6, 0),
}


@pytest.mark.unit
class TestRewinding:
    @pytest.mark.parametrize(("finished", "planned", "first"), BEFORE.values(), ids=BEFORE)
    def test_after_any_step_a_start_is_refused_or_loses_nothing(self, finished: int, planned: int, first: int) -> None:
        logs = Logs(range(first, finished + 1), range(first, planned + 1))
        states = [starts(logs)]
        for step in steps(logs, BATCH, planned_file(WANTED)):
            step()
            states.append(starts(logs))
        assert states[-1], "it starts"
        assert (logs.newest(OFFSETS), logs.newest(COMMITS)) == (BATCH, BATCH)
        assert ends(logs.read(OFFSETS, BATCH), TOPIC) == {0: WANTED}
        assert not any(before and not after for before, after in pairwise(states)), "it started before, and no more"

    def test_the_first_batch_has_none_before_it(self) -> None:
        logs = Logs(range(3), range(3))
        for step in steps(logs, 0, planned_file(WANTED)):
            step()
        assert (logs.batches(OFFSETS), logs.batches(COMMITS)) == ([0], [0])


def starts(logs: Logs) -> bool:
    """Whether a driver starts whose tables end with BATCH. If so, what Spark does next loses nothing."""
    planned, finished = logs.newest(OFFSETS), logs.newest(COMMITS)
    if not of_one_history(finished, planned, BATCH):
        return False
    # Spark plans the newest batch again unless it is finished; the tables have BATCH and skip it.
    again = None if finished == planned else planned
    assert again in (None, BATCH, BATCH + 1), f"batches {BATCH + 1} to {planned - 1} would be skipped"
    if again == BATCH:
        assert logs.read(OFFSETS, BATCH - 1) == logs.read(OFFSETS, BATCH), "what the tables skip must be nothing"
    return True


@pytest.mark.spark
class TestASparkCheckpoint:
    """A real query over a Delta table as its source; its offsets are the source's versions, not Kafka's."""

    def test_spark_goes_on_where_it_was_taken_back_to(self, spark: SparkSession, tmp_path: Path) -> None:
        folder = tmp_path / "checkpoint"
        assert [run_query(spark, tmp_path, folder, value) for value in range(3)] == [[(0, 0)], [(1, 1)], [(2, 2)]]
        logs = FileLogs(folder)
        first, second = logs.read(OFFSETS, 0), logs.read(OFFSETS, 1)
        for step in steps(logs, 1, second):
            step()
        Checkpoint(spark, str(folder)).refuse_other_history({"silver": 1})
        assert run_query(spark, tmp_path, folder, 3) == [(2, 2), (2, 3)]

        for log_name, batch in [(name, batch) for name in (OFFSETS, COMMITS) for batch in (0, 1)]:
            logs.delete(log_name, batch)  # as Spark does after a hundred batches
        for step in steps(logs, 1, first):
            step()
        assert run_query(spark, tmp_path, folder, 4) == [(2, 1), (2, 2), (2, 3), (2, 4)], "from what it was given"


def run_query(spark: SparkSession, tmp_path: Path, folder: Path, value: int) -> list[tuple[int, int]]:
    """Add a row to the source and let a query take what it has not seen yet: batch and value of each row."""
    source, seen = str(tmp_path / "source"), list[tuple[int, int]]()
    spark.createDataFrame([(value,)], "value INT").coalesce(1).write.format("delta").mode("append").save(source)

    def take(rows: DataFrame, batch: int) -> None:
        seen.extend(sorted((batch, row[0]) for row in rows.collect()))

    query = (
        spark.readStream.format("delta").load(source).writeStream.foreachBatch(take)
        .option("checkpointLocation", str(folder)).trigger(once=True).start()
    )  # fmt: skip
    query.awaitTermination(120)
    return seen


class FileLogs(Logs):
    """The logs of a checkpoint on local disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def batches(self, log: str) -> list[int]:
        return sorted(int(path.name) for path in (self.folder / log).iterdir() if path.name.isdecimal())

    def read(self, log: str, batch: int) -> str:
        return (self.folder / log / str(batch)).read_text(encoding="utf-8")

    def write(self, log: str, batch: int, text: str) -> None:
        json.loads(text.splitlines()[-1])
        self._forget(log, batch)
        (self.folder / log / str(batch)).write_text(text, encoding="utf-8")

    def delete(self, log: str, batch: int) -> None:
        self._forget(log, batch)
        (self.folder / log / str(batch)).unlink()

    def _forget(self, log: str, batch: int) -> None:
        """Local disk has a checksum beside each file, which an object store has not."""
        (self.folder / log / f".{batch}.crc").unlink(missing_ok=True)
