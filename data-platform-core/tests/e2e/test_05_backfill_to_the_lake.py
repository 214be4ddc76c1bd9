"""A history that goes straight to the lake: imported once whatever is killed, accounted for, and the stream goes on."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from minio import Minio
from pipeline import SCRIPTS, Pipeline

from data_platform_core.naming import landing_prefix, names

pytestmark = pytest.mark.e2e

RUN = "e2e-landed"
DAYS = ("--from", "2026-04-01", "--to", "2026-04-30", "--scale", "0.05", "--sink", "lake")


def generator(pipeline: Pipeline, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / "crm-generator"), *arguments, "--env", pipeline.environment, "--metrics-port", "0", "-q"]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def kill_once_something_is_imported(pipeline: Pipeline, store: Minio) -> None:
    """SIGKILL to the import when the first table has taken a commit, whichever it is."""
    bucket = pipeline.settings("streaming").object_store.lake_bucket

    def commits() -> int:
        folders = (names("events").bronze, names("events").silver)
        return sum(1 for folder in folders for _ in store.list_objects(bucket, f"{folder}/_delta_log/"))

    before = commits()
    command = [str(SCRIPTS / "crm"), "--env", pipeline.environment, "lake", "import", "--run-id", RUN]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        while commits() == before:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()


def test_landed_files_are_imported_once_and_the_stream_takes_over_again(
    pipeline: Pipeline, store: Minio, tmp_path: Path
) -> None:
    sent = generator(pipeline, "backfill", "--run-id", RUN, *DAYS)
    assert sent.returncode == 0, sent.stderr
    refused = pipeline.crm("lake", "import", "--run-id", RUN)
    assert refused.code == 3
    assert "does a streaming driver run already?" in refused.err

    pipeline.stop_streaming()
    try:
        nothing = pipeline.crm("lake", "import", "--run-id", "nobodys")
        assert nothing.code == 2
        assert f"run 'nobodys' has no {landing_prefix('nobodys')}/manifest.json" in nothing.err
        kill_once_something_is_imported(pipeline, store)
        first = pipeline.crm("lake", "import", "--run-id", RUN)
        assert first.code == 0, first.err
        assert len([line for line in first.out.splitlines() if line.endswith(" rows in bronze")]) == 4
    finally:
        pipeline.start_streaming()

    after = "e2e-after-import"
    pipeline.generate(after, seconds=5, rate=40)
    pipeline.drain()
    pipeline.load_and_build()
    for run_id in (RUN, after):
        report = pipeline.reconcile(run_id, tmp_path / f"{run_id}.json")
        assert report["code"] == 0, report["printed"]
