"""Time travel of a running platform: an entity goes back, and the stream brings back what came since, each row once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pipeline import Pipeline

from data_platform_core.lake.delta import delta_table
from data_platform_core.lake.store import delta_options
from data_platform_core.naming import names

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

ENTITY = names("orders")
FIRST, SECOND = "faults-restore-1", "faults-restore-2"


@contextmanager
def driver_away(pipeline: Pipeline) -> Iterator[None]:
    pipeline.stop_streaming()
    try:
        yield
    finally:
        pipeline.start_streaming()


def version(pipeline: Pipeline, folder: str = ENTITY.silver) -> int:
    return int(delta_table(pipeline.settings("accounting").object_store, folder).version())


def refused(pipeline: Pipeline, *arguments: str) -> str:
    """The one line with which a command refuses."""
    done = pipeline.crm(*arguments, timeout=240)
    assert done.code == 3, done.err + done.out
    assert "Traceback" not in done.err
    (line,) = (line for line in done.err.splitlines() if line.startswith("error: "))
    return line


def kill_restore_after_bronze(pipeline: Pipeline, to: int) -> None:
    """Start a restore, and kill it with its JVM once bronze has gone back; it may have done more by then."""
    commits = version(pipeline, ENTITY.bronze)
    command = pipeline.job("lake-restore", ENTITY.entity, str(to), "--yes")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 240
        while version(pipeline, ENTITY.bronze) == commits:
            assert process.poll() is None, "it ended before it had begun"
            assert time.monotonic() < deadline, "it did not begin"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def test_an_entity_goes_back_and_the_stream_brings_back_what_came_since(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.generate(FIRST, seconds=20, rate=60)
    pipeline.drain()
    before = version(pipeline)
    pipeline.generate(SECOND, seconds=20, rate=60)
    pipeline.drain()
    pipeline.load_and_build()
    assert "is being written by crm stream run" in refused(pipeline, "lake", "restore", "orders", str(before), "--yes")

    with driver_away(pipeline):
        full = version(pipeline)
        added = pipeline.crm("lake", "diff", "orders", str(before), str(full), "--limit", "0").out
        assert re.search(r": [1-9][\d,]* rows added, 0 removed", added), added
        kill_restore_after_bronze(pipeline, before)
        assert "are not of one history" in refused(pipeline, "stream", "run", "--entity", "orders")
        done = pipeline.crm("lake", "restore", "orders", str(before), "--yes")
        assert done.code == 0, done.err
        assert re.search(r"the stream reads [1-9][\d,]* offsets of crm\.orders\.v1 again", done.out), done.out
        gone = pipeline.crm("lake", "diff", "orders", str(before), "--limit", "0").out
        assert "0 rows added, 0 removed; 0 keys" in gone, gone

    pipeline.drain()
    again = pipeline.crm("lake", "diff", "orders", str(full), "--limit", "3").out
    assert "0 rows added, 0 removed; 0 keys" in again, again

    assert "load it anew with --rebuild" in refused(pipeline, "load", "--entity", "orders")
    for arguments in (("load", "--rebuild"), ("dbt", "build", "--full-refresh")):
        done = pipeline.crm(*arguments)
        assert done.code == 0, done.err + done.out
    for run in (FIRST, SECOND):
        report = pipeline.reconcile(run, tmp_path / f"{run}.json")
        assert report["code"] == 0, report["printed"]


def test_a_restore_by_other_means_is_noticed(pipeline: Pipeline) -> None:
    """Without it the stream started, and skipped for good what the table no longer had."""
    pipeline.drain()
    with driver_away(pipeline):
        store = pipeline.settings("streaming").object_store
        table = DeltaTable(f"s3://{store.lake_bucket}/{ENTITY.silver}", storage_options=delta_options(store))
        newest = table.version()
        appends = [commit["version"] for commit in table.history() if commit["operation"] == "WRITE"]
        table.restore(appends[3])
        assert "are not of one history" in refused(pipeline, "stream", "run", "--entity", "orders")
        done = pipeline.crm("lake", "restore", "orders", str(newest), "--yes")
        assert done.code == 0, done.err
    pipeline.drain()
