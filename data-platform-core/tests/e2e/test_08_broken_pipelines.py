"""Pipelines broken on purpose: a check that has never failed proves nothing.

These tests run after all that load: a table that was tampered with and restored can't be loaded incrementally any more.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import story
from alterations import IN_LAKE, IN_LANDING, IN_MARTS, Alteration, Tables
from confluent_kafka import Producer
from deltalake import DeltaTable
from minio import Minio
from minio.commonconfig import CopySource
from pipeline import Pipeline

from data_platform_core.lake.delta import table_rows
from data_platform_core.lake.store import delta_options
from data_platform_core.naming import names
from data_platform_core.wire.ledger import ORIGIN_HEADER, origin

pytestmark = [*story.MARKS, pytest.mark.last]

#: The newest run of the catalogue; its reconciliation is a test of its own.
RUN = story.AFTER_IMPORT


@pytest.fixture(scope="module")
def stopped(loaded: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A run that passes, and a streaming driver that is stopped while its tables are tampered with."""
    report = loaded.reconcile(RUN, tmp_path_factory.mktemp("reports") / "before.json")
    assert report["code"] == 0, report["printed"]
    loaded.stop_streaming()
    return loaded


@pytest.fixture(scope="module")
def restarted(stopped: Pipeline) -> Pipeline:
    """The driver again, after the tests for which it is stopped."""
    stopped.start_streaming()
    return stopped


def table(pipeline: Pipeline, folder: str) -> DeltaTable:
    store = pipeline.settings("streaming").object_store
    options = {**delta_options(store), "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}
    return DeltaTable(f"s3://{store.lake_bucket}/{folder}", storage_options=options)


def rows_of(pipeline: Pipeline, table: DeltaTable, columns: list[str]) -> list[dict[str, object]]:
    return table_rows(pipeline.settings("streaming").object_store, table).to_table(columns=columns).to_pylist()


def failed(report: dict[str, object], *equations: str) -> None:
    assert report["code"] == 1, report["printed"]
    printed = str(report["printed"])
    for equation in equations:
        assert any(equation in line and "FAIL" in line for line in printed.splitlines()), printed


@pytest.mark.parametrize("alterations", [IN_LAKE, IN_LANDING, IN_MARTS], ids=["lake", "landing", "marts"])
def test_altered_content_is_named_row_and_column(
    stopped: Pipeline, tmp_path: Path, alterations: tuple[Alteration, ...]
) -> None:
    """All at once, since a reconciliation takes seconds; `make test-faults` runs each alone."""
    tables = Tables(stopped, RUN)
    with tables.restored():
        for alteration in alterations:
            alteration.apply(tables)
        report = stopped.reconcile(RUN, tmp_path / "altered.json")
    failed(report, "A8")
    unnamed = [alteration.what for alteration in alterations if alteration.reported not in str(report["printed"])]
    assert not unnamed, report["printed"]


def test_a_record_lost_from_bronze_is_missed(stopped: Pipeline, tmp_path: Path) -> None:
    bronze = table(stopped, names("products").bronze)
    before = bronze.version()
    lost = rows_of(stopped, bronze, ["run_id", "partition", "offset"])
    victim = next(row for row in lost if row["run_id"] == RUN)
    bronze.delete(f"partition = {victim['partition']} AND offset = {victim['offset']}")
    try:
        failed(stopped.reconcile(RUN, tmp_path / "lost.json"), "A1", "A3")
    finally:
        bronze.restore(before)


def test_a_record_lost_between_bronze_and_silver_is_missed(stopped: Pipeline, tmp_path: Path) -> None:
    silver = table(stopped, names("events").silver)
    before = silver.version()
    rows = rows_of(stopped, silver, ["run_id", "event_id"])
    victim = next(row for row in rows if row["run_id"] == RUN)
    silver.delete(f"event_id = '{victim['event_id']}'")
    try:
        failed(stopped.reconcile(RUN, tmp_path / "silver.json"), "A4")
    finally:
        silver.restore(before)


def test_records_that_are_not_ingested_are_reported_as_lag(stopped: Pipeline, tmp_path: Path) -> None:
    """A7, and with it A1: the driver is stopped while a producer sends."""
    run = "e2e-unread"
    stopped.generate(run, seconds=3, rate=40)
    failed(stopped.reconcile(run, tmp_path / "lag.json", wait_s=5), "A1", "A7")


def test_a_lost_checkpoint_stops_the_driver_with_one_line(stopped: Pipeline, store: Minio) -> None:
    bucket = stopped.settings("streaming").object_store.lake_bucket
    checkpoint = names("products").checkpoint
    keys = [item.object_name for item in store.list_objects(bucket, checkpoint + "/", recursive=True)]
    for key in keys:
        store.copy_object(bucket, f"aside/{key}", CopySource(bucket, key))
        store.remove_object(bucket, key)
    try:
        done = stopped.crm("stream", "run", "--entity", "products", timeout=120)
    finally:
        for key in keys:
            store.copy_object(bucket, key, CopySource(bucket, f"aside/{key}"))
            store.remove_object(bucket, f"aside/{key}")
    assert done.code == 3, done.err
    line = next(line for line in done.err.splitlines() if line.startswith("error: "))
    assert "checkpoint" in line
    assert "restore the checkpoint" in line
    assert "Traceback" not in done.err


def test_wrong_object_store_credentials_stop_the_driver_with_one_line(stopped: Pipeline) -> None:
    done = stopped.crm("stream", "run", env={"CRM_OBJECT_STORE__SECRET_KEY": "wrong-on-purpose"}, timeout=240)
    assert done.code == 3, done.err
    line = next(line for line in done.err.splitlines() if line.startswith("error: "))
    assert "CRM_OBJECT_STORE__SECRET_KEY" in line
    assert "wrong-on-purpose" not in done.err + done.out
    assert "Traceback" not in done.err


def test_a_record_that_is_in_no_ledger_is_found(restarted: Pipeline, tmp_path: Path) -> None:
    settings = restarted.settings("admin")
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "acks": "all"})
    header = [(ORIGIN_HEADER, origin(RUN, 0, 9_999_999))]
    producer.produce(names("products").topic, value=uuid.uuid4().bytes, key=b"1", headers=header)
    assert producer.flush(30) == 0
    restarted.drain()
    failed(restarted.reconcile(RUN, tmp_path / "invented.json"), "A2")


def test_a_second_driver_is_refused_before_it_touches_a_table(restarted: Pipeline) -> None:
    shown = restarted.crm("lake", "lease").out
    assert "crm-lake: held" in shown
    done = restarted.crm("stream", "run", "--entity", "orders", timeout=120)
    assert done.code == 3, done.err
    holder = next(line.removeprefix("holder: ") for line in shown.splitlines() if line.startswith("holder: "))
    assert f"is being written by {holder} (epoch " in done.err
    assert "Traceback" not in done.err
