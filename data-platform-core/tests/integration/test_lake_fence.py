"""A fenced writer can't write; where the store accepts its write anyway, the log shows it."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.lake.fence import Fence
from data_platform_core.lake.marks import batch_mark
from data_platform_core.object_store import s3_client
from data_platform_core.settings import ObjectStoreSettings, Settings

pytestmark = pytest.mark.integration

#: The writer before, and the one that takes over.
BEFORE, AFTER = 3, 4
TOKEN = f"{AFTER}-0011223344556677"
_numbers = itertools.count(1)


@dataclass
class Trial:
    """A bronze table of the test's own, with one row of epoch BEFORE."""

    spark: Any
    store: ObjectStoreSettings
    client: Minio
    contract: Contract

    @property
    def folder(self) -> str:
        return self.contract.names.bronze

    def append(self, rows: Any, epoch: int) -> None:
        note = batch_mark("ingest_trial", 0, epoch)
        uri = self.store.lake_uri(self.folder)
        rows.write.format("delta").mode("append").option("userMetadata", note).save(uri)

    def row(self) -> Any:
        return self.spark.range(1)

    def count(self) -> int:
        return int(self.spark.read.format("delta").load(self.store.lake_uri(self.folder)).count())

    def fence(self) -> Fence:
        fence = Fence(self.store, AFTER, TOKEN)
        fence.raise_over(self.spark, [self.contract])
        return fence

    def newest_commit(self) -> str:
        log = self.client.list_objects(self.store.lake_bucket, f"{self.folder}/_delta_log/")
        return max(str(item.object_name) for item in log if str(item.object_name).endswith(".json"))


@pytest.fixture(scope="module")
def lake(settings: Callable[[str], Settings]) -> Iterator[Any]:
    """A Spark session with Delta and S3; one that another module left is ended first."""
    from pyspark.sql import SparkSession

    from data_platform_core.lake.session import spark_session

    left = SparkSession.getActiveSession()
    if left is not None:
        left.stop()
    session = spark_session(settings("streaming"), "test-fence", short=True)
    yield session
    session.stop()


@pytest.fixture
def trial(lake: Any, settings: Callable[[str], Settings], contracts: dict[str, Contract]) -> Iterator[Trial]:
    store = settings("streaming").object_store
    contract = contracts["products"].model_copy(update={"entity": f"trial_fence_{next(_numbers)}"})
    found = Trial(lake, store, s3_client(store, urllib3.PoolManager()), contract)
    found.append(found.row(), BEFORE)
    yield found
    keys = found.client.list_objects(store.lake_bucket, f"{found.folder}/", recursive=True)
    gone = found.client.remove_objects(store.lake_bucket, [DeleteObject(str(key.object_name)) for key in keys])
    assert list(gone) == []


def under_way(trial: Trial, pool: ThreadPoolExecutor, folder: Path) -> tuple[Future[None], Path]:
    """An append that has begun its transaction, and the file that lets it end."""
    from pyspark.sql import functions as F

    begun, go_on = folder / "begun", folder / "go-on"

    def held_up(value: int) -> int:
        begun.touch()
        while not go_on.exists():
            time.sleep(0.05)
        return value

    rows = trial.row().select(F.udf(held_up, "bigint")("id").alias("id"))
    writing = pool.submit(trial.append, rows, BEFORE)
    while not begun.exists():
        assert not writing.done(), writing.exception()
        time.sleep(0.05)
    return writing, go_on


def test_an_append_under_way_fails_once_the_table_is_fenced(trial: Trial, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        writing, go_on = under_way(trial, pool, tmp_path)
        try:
            fence = trial.fence()
        finally:
            go_on.touch()
        with pytest.raises((Py4JJavaError, PySparkException)) as error:
            writing.result()
    assert "DELTA_METADATA_CHANGED" in str(error.value)
    assert trial.count() == 1
    assert fence.broken() is None


def test_without_a_fence_delta_lets_it_through_beside_another_writer(trial: Trial, tmp_path: Path) -> None:
    """Why the fence is needed: appends do not conflict, so the rows of one batch would be written twice."""
    with ThreadPoolExecutor(1) as pool:
        writing, go_on = under_way(trial, pool, tmp_path)
        try:
            trial.append(trial.row(), AFTER)
        finally:
            go_on.touch()
        writing.result()
    assert trial.count() == 3


def test_commits_of_the_new_writer_and_of_maintenance_break_no_fence(trial: Trial) -> None:
    fence = trial.fence()
    trial.append(trial.row(), AFTER)
    trial.spark.sql(f"OPTIMIZE delta.`{trial.store.lake_uri(trial.folder)}`")
    assert fence.broken() is None


def test_a_commit_of_an_earlier_epoch_after_the_fence_is_found_with_its_version(trial: Trial) -> None:
    fence = trial.fence()
    trial.append(trial.row(), AFTER)
    assert fence.broken() is None
    trial.append(trial.row(), BEFORE)
    broken = fence.broken()
    assert broken is not None
    assert f"table {trial.folder}, version 3: written under epoch {BEFORE} " in broken
    assert "\n" not in broken


def test_a_fencing_commit_that_was_overwritten_is_found(trial: Trial) -> None:
    """As by a writer paused between Delta's listing for the next version and its put, which has no condition."""
    fence, key = trial.fence(), trial.newest_commit()
    trial.append(trial.row(), AFTER)
    foreign = b'{"commitInfo":{"operation":"WRITE"}}\n'
    trial.client.put_object(trial.store.lake_bucket, key, io.BytesIO(foreign), len(foreign))
    broken = fence.broken()
    assert broken is not None
    assert f"table {trial.folder}, version 1: the commit with which epoch {AFTER} of the lease took over was" in broken


def test_a_fence_that_is_not_there_is_no_fence(trial: Trial) -> None:
    with pytest.raises(ServiceError, match="was overwritten by an earlier writer"):
        Fence(trial.store, AFTER, TOKEN).stands_at(trial.folder)
