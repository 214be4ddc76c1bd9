"""Checkpoint, tables and topic that are not of one history: refused in one line, and fixed as the runbook states."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from minio import Minio
from minio.commonconfig import CopySource
from outages import wait_for
from pipeline import Pipeline

from data_platform_core.kafka.client import connection
from data_platform_core.naming import names

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800), pytest.mark.last]

ENTITY = names("products")


@contextmanager
def driver_away(pipeline: Pipeline) -> Iterator[None]:
    pipeline.stop_streaming()
    try:
        yield
    finally:
        pipeline.start_streaming()


def refusal(pipeline: Pipeline) -> str:
    """The one line with which a driver refuses to start."""
    done = pipeline.crm("stream", "run", "--entity", "products", timeout=240)
    assert done.code == 3, done.err
    assert "Traceback" not in done.err
    (line,) = (line for line in done.err.splitlines() if line.startswith("error: "))
    return line


class Folder:
    """A folder of the lake."""

    def __init__(self, store: Minio, bucket: str, name: str) -> None:
        self._store, self._bucket, self.name = store, bucket, name

    def copy(self, to: str) -> Folder:
        """Copy every object to another folder, emptied first."""
        other = Folder(self._store, self._bucket, to)
        other.delete()
        for key in self._keys():
            self._store.copy_object(self._bucket, to + key.removeprefix(self.name), CopySource(self._bucket, key))
        return other

    def delete(self) -> None:
        for key in self._keys():
            self._store.remove_object(self._bucket, key)

    def _keys(self) -> list[str]:
        listed = self._store.list_objects(self._bucket, f"{self.name}/", recursive=True)
        return [str(item.object_name) for item in listed]


def folder(pipeline: Pipeline, store: Minio, name: str) -> Folder:
    return Folder(store, pipeline.settings("streaming").object_store.lake_bucket, name)


def test_a_checkpoint_restored_from_a_copy_is_refused_and_the_newest_resumes(
    pipeline: Pipeline, store: Minio, tmp_path: Path
) -> None:
    run, checkpoint = "faults-old-checkpoint", folder(pipeline, store, ENTITY.checkpoint)
    pipeline.drain()
    with driver_away(pipeline):
        old = checkpoint.copy("aside/old")
    pipeline.generate(run, seconds=20, rate=60)
    pipeline.drain()
    with driver_away(pipeline):
        newest = checkpoint.copy("aside/newest")
        old.copy(checkpoint.name)
        try:
            assert "are not of one history" in refusal(pipeline)
        finally:
            newest.copy(checkpoint.name)
    pipeline.drain()
    pipeline.load_and_build()
    report = pipeline.reconcile(run, tmp_path / "report.json")
    assert report["code"] == 0, report["printed"]


def test_a_recreated_topic_is_refused_and_ingested_from_its_beginning_when_tables_are_moved_away(
    pipeline: Pipeline, store: Minio, tmp_path: Path
) -> None:
    run, kafka = "faults-topic-anew", AdminClient(connection(pipeline.settings("admin").kafka))
    pipeline.drain()
    with driver_away(pipeline):
        for future in kafka.delete_topics([ENTITY.topic]).values():
            future.result(30)
        wait_for("the topic is gone", lambda: ENTITY.topic not in kafka.list_topics(timeout=10).topics, 60)
        applied = pipeline.crm("topics", "apply")
        assert applied.code == 0, applied.err
        pipeline.generate(run, seconds=20, rate=60)
        assert f"topic {ENTITY.topic} was deleted and recreated" in refusal(pipeline)
        for name in (ENTITY.checkpoint, ENTITY.bronze, ENTITY.silver):
            folder(pipeline, store, name).delete()
    pipeline.drain()
    rebuilt = pipeline.crm("load", "--entity", "products", "--rebuild")
    assert rebuilt.code == 0, rebuilt.err
    for arguments in (("load",), ("dbt", "build", "--full-refresh")):
        done = pipeline.crm(*arguments)
        assert done.code == 0, done.err + done.out
    report = pipeline.reconcile(run, tmp_path / "report.json")
    assert report["code"] == 0, report["printed"]
