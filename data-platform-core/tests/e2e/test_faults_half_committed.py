"""The streaming driver dies by SIGKILL where its tables and its checkpoint differ, and nothing is lost or doubled."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from minio import Minio
from pipeline import Checkpoint, Pipeline

pytestmark = pytest.mark.faults


def test_restarted_onto_a_batch_that_only_silver_committed(pipeline: Pipeline, store: Minio, tmp_path: Path) -> None:
    """Killed between the tables' commits and the checkpoint's: Spark replays the batch, Delta skips it."""
    run = "e2e-uncommitted"
    bucket = pipeline.settings("streaming").object_store.lake_bucket
    checkpoint = Checkpoint(store, bucket, "events")
    seen = False
    with pipeline.generating(run, seconds=75, rate=300):
        for _attempt in range(4):
            time.sleep(3)
            batch = checkpoint.wait_for_half_committed_batch(timeout_s=150)
            pipeline.kill_streaming()
            if checkpoint.newest("commits") < batch <= checkpoint.newest("offsets"):
                seen = True
                break
    assert seen, "the kill never fell between silver's commit and the checkpoint's"
    pipeline.drain()
    pipeline.load_and_build()
    report = pipeline.reconcile(run, tmp_path / "uncommitted.json")
    assert report["code"] == 0, report["printed"]
