"""A leader that is stopped, and disks that are full: each recovers by itself, and every record is accounted for.

The disk of one service is a separate small file system (tmpfs), so that filling it affects nothing else; mounting needs
root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from minio import Minio
from minio.error import S3Error
from outages import deaths, driver, status, wait_for, wait_until_ready
from pipeline import Pipeline

from data_platform_core.naming import names
from data_platform_core.topology import load_topology
from embedded_stack import api
from embedded_stack.kafka_nodes import kafka_name
from embedded_stack.layout import Layout

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2400)]

RATE = 40.0
MIB = 2**20
#: In addition to the service's existing data.
ROOM = 48 * MIB
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")


class Disk:
    """A small file system under a service's data folder."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"

    def fill(self) -> None:
        with self._filler.open("wb") as file:
            try:
                while True:
                    file.write(bytes(MIB))
                    file.flush()
            except OSError:
                return

    def free(self) -> None:
        self._filler.unlink()


@contextmanager
def small_disk(environment: str, service: str, folder: Path) -> Iterator[Disk]:
    """The service with its data on a small disk; on leaving, its data is where it was."""
    aside = folder.with_name(f"{folder.name}.aside")
    api.stop(environment, service)
    folder.rename(aside)
    folder.mkdir(mode=0o700)
    used = int(subprocess.check_output(["du", "-s", "--block-size=1", aside]).split()[0])
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={used + ROOM}", "tmpfs", folder], check=True)
    try:
        subprocess.run(["cp", "-a", "--sparse=always", f"{aside}/.", folder], check=True)
        api.start(environment, service)
        yield Disk(folder)
    finally:
        api.stop(environment, service)
        shutil.rmtree(aside)
        subprocess.run(["cp", "-a", "--sparse=always", folder, aside], check=True)
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()
        aside.rename(folder)
        (folder / "filler").unlink(missing_ok=True)
        api.start(environment, service)


def account_for(pipeline: Pipeline, run: str, tmp_path: Path) -> None:
    wait_until_ready(pipeline.environment)
    pipeline.drain()
    pipeline.load_and_build()
    verdict = pipeline.reconcile(run, tmp_path / "report.json")
    assert verdict["code"] == 0, verdict["printed"]


def test_the_leader_of_a_partition_is_stopped_under_traffic(pipeline: Pipeline, tmp_path: Path) -> None:
    run, environment = "faults-leader", pipeline.environment
    wait_until_ready(environment)
    topic = names("events").topic
    client = AdminClient({"bootstrap.servers": pipeline.settings("streaming").kafka.bootstrap_servers})

    def leader() -> int:
        return int(client.list_topics(topic, timeout=10).topics[topic].partitions[0].leader)

    first = leader()
    broker = next(broker for broker in load_topology(environment).kafka.brokers if broker.id == first)
    with pipeline.generating(run, seconds=60, rate=RATE):
        time.sleep(10)
        api.stop(environment, kafka_name(broker))
        wait_for("another broker leads", lambda: leader() not in (first, -1), 60)
        time.sleep(20)
        api.start(environment, kafka_name(broker))
    account_for(pipeline, run, tmp_path)


@needs_root
def test_a_full_disk_of_a_broker_stops_no_producer_and_ends_with_the_space(pipeline: Pipeline, tmp_path: Path) -> None:
    run, environment = "faults-broker-disk", pipeline.environment
    wait_until_ready(environment)
    topology = load_topology(environment)
    broker = topology.kafka.brokers[1]
    name = kafka_name(broker)
    with small_disk(environment, name, Layout(topology).kafka_data(broker.id)) as disk:
        with pipeline.generating(run, seconds=120, rate=RATE):
            time.sleep(5)
            disk.fill()
            wait_for("the broker falls", lambda: status(environment, name).problem, 90)
            time.sleep(20)
            assert status(environment, name).state != "FATAL"
            disk.free()
        wait_for("the broker is back", lambda: status(environment, name).problem is None, 180)
        account_for(pipeline, run, tmp_path)


@needs_root
def test_a_full_disk_of_the_object_store_ends_with_the_space(pipeline: Pipeline, store: Minio, tmp_path: Path) -> None:
    run, environment = "faults-store-disk", pipeline.environment
    wait_until_ready(environment)
    with small_disk(environment, "minio", Layout(load_topology(environment)).minio_data) as disk:
        wait_until_ready(environment)
        before = deaths(environment)
        pipeline.generate(run, seconds=8, rate=RATE)
        pipeline.drain()
        disk.fill()
        with pytest.raises(S3Error):
            store.put_object(pipeline.settings("streaming").object_store.lake_bucket, "probe", _Zeros(), MIB)
        # The ledger needs the store, so its producer ends; what it could account for, it did.
        caught = subprocess.run(
            pipeline.generator(f"{run}-full", 20, RATE), capture_output=True, text=True, check=False, timeout=300
        )
        assert caught.returncode in (0, 3), caught.stderr
        time.sleep(20)
        assert driver(environment).state in ("STARTING", "RUNNING", "BACKOFF")
        disk.free()
        pipeline.generate(f"{run}-after", seconds=8, rate=RATE)
        account_for(pipeline, run, tmp_path)
        account_for(pipeline, f"{run}-after", tmp_path)
    assert deaths(environment) >= before


class _Zeros:
    """A stream of a MiB of zeros."""

    def __init__(self) -> None:
        self._left = MIB

    def read(self, size: int = -1) -> bytes:
        found = self._left if size < 0 else min(size, self._left)
        self._left -= found
        return bytes(found)
