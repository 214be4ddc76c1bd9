"""The story of the end-to-end tests: every kind of traffic through one pipeline, and one load of it into the marts.

The most expensive steps run once for all tests: each driver, load and import starts Spark's JVM, which takes half a
minute of one core. Each function is a chapter; a chapter's tests are in the file of its number.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx
import pytest
from minio import Minio
from pipeline import Checkpoint, Finished, Pipeline
from prometheus_client.parser import text_string_to_metric_families

from data_platform_core.accounting.liveness import topic_marks
from data_platform_core.contracts import Contract
from data_platform_core.jobs import program_path
from data_platform_core.naming import names
from data_platform_core.topology import load_topology

#: Of every test of the story. The chapters' time counts for the test that runs first.
MARKS = [pytest.mark.e2e, pytest.mark.timeout(1800)]
#: Runs by how they came. The last one is the newest of the catalogue's products and profiles.
NORMAL, KILLED, BACKFILL, SEED = "e2e-normal", "e2e-killed", "e2e-backfill", "e2e-seed"
LANDED, AFTER_IMPORT = "e2e-landed", "e2e-after-import"
RUNS = (NORMAL, BACKFILL, SEED, KILLED, LANDED, AFTER_IMPORT)
#: From history, in which nothing is late.
HISTORIES = (BACKFILL, SEED, LANDED)
HISTORY = ("--from", "2026-03-01", "--to", "2026-03-31", "--scale", "0.05")  # some 8,000 records
LANDED_DAYS = ("--from", "2026-04-01", "--to", "2026-04-30", "--scale", "0.05", "--sink", "lake")
FIXTURES = ("--profiles", "60", "--products", "30", "--orders", "400", "--reviews", "200")
COMPACTED_WITHIN_S = 120

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(pipeline: Pipeline) -> Samples:
    """The driver's metrics, by name and labels."""
    address = load_topology(pipeline.environment).metrics.streaming.address
    text = httpx.get(f"http://{address}/metrics").text
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    """A metric of the stream, by its name without the prefix; 0 when there is none."""
    return samples.get((f"crm_streaming_{name}", frozenset(labels.items())), 0.0)


def compact(pipeline: Pipeline) -> None:
    """A normal run during which both tables of events were compacted and the warehouse was loaded."""
    with pipeline.generating(NORMAL, seconds=40, rate=60):
        time.sleep(15)
        pipeline.load_and_build()
    deadline = time.monotonic() + COMPACTED_WITHIN_S
    while time.monotonic() < deadline:
        samples = scrape(pipeline)
        if all(value(samples, "compacted_files_total", entity="events", layer=la) for la in ("silver", "bronze")):
            break
        time.sleep(1)
    else:
        pytest.fail(f"events was not compacted within {COMPACTED_WITHIN_S} s")
    pipeline.drain()


def send_history(pipeline: Pipeline, contracts: Mapping[str, Contract]) -> None:
    """A backfill that is killed and resumed, fixtures, and a history that lands as files."""
    kill_under_way(pipeline, contracts, generator(pipeline, "backfill", "--run-id", BACKFILL, *HISTORY), 3_000)
    send(pipeline, "backfill", "--run-id", BACKFILL, "--resume")
    send(pipeline, "seed", "--run-id", SEED, *FIXTURES)
    send(pipeline, "backfill", "--run-id", LANDED, *LANDED_DAYS)


def kill_driver_twice(pipeline: Pipeline, store: Minio) -> None:
    """SIGKILL in the middle of two batches, under traffic."""
    bucket = pipeline.settings("streaming").object_store.lake_bucket
    checkpoint = Checkpoint(store, bucket, "events")
    with pipeline.generating(KILLED, seconds=60, rate=300):
        for _kill in range(2):
            time.sleep(4)
            checkpoint.wait_for_batch_under_way(timeout_s=150)
            pipeline.kill_streaming()
    pipeline.drain()


@dataclass(frozen=True)
class Imports:
    """Imports of landed files, as they ended: beside a driver, of a run without landed files, after a killed one."""

    beside_driver: Finished
    unknown: Finished
    whole: Finished


def import_landed(pipeline: Pipeline, store: Minio) -> Imports:
    """The landed files into the lake, with a SIGKILL in the middle; afterwards the stream runs again."""
    beside_driver = pipeline.crm("lake", "import", "--run-id", LANDED)
    pipeline.stop_streaming()
    try:
        unknown = pipeline.crm("lake", "import", "--run-id", "nobodys")
        kill_import(pipeline, store)
        whole = pipeline.crm("lake", "import", "--run-id", LANDED)
    finally:
        pipeline.start_streaming()
    pipeline.generate(AFTER_IMPORT, seconds=15, rate=60)
    return Imports(beside_driver, unknown, whole)


def load_and_build(pipeline: Pipeline) -> None:
    """Load what was sent, up to the marts."""
    pipeline.drain()
    pipeline.load_and_build()


def generator(pipeline: Pipeline, *arguments: str) -> list[str]:
    return [program_path("crm-generator"), *arguments, "--env", pipeline.environment, "--metrics-port", "0", "-q"]


def send(pipeline: Pipeline, *arguments: str) -> None:
    """Run the generator to its end; fails unless it succeeds."""
    command = generator(pipeline, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def kill_under_way(pipeline: Pipeline, contracts: Mapping[str, Contract], command: list[str], sent: int) -> None:
    """SIGKILL once the topics have gained `sent` records."""

    def records() -> int:
        marks = topic_marks(pipeline.settings("accounting"), contracts)
        return sum(end for partitions in marks.values() for _, end in partitions.values())

    before = records()
    _kill_when(lambda: records() >= before + sent, command)


def kill_import(pipeline: Pipeline, store: Minio) -> None:
    """SIGKILL to the import when the first table has a commit, whichever it is."""
    bucket = pipeline.settings("streaming").object_store.lake_bucket

    def commits() -> int:
        folders = (names("events").bronze, names("events").silver)
        return sum(1 for folder in folders for _ in store.list_objects(bucket, f"{folder}/_delta_log/"))

    before = commits()
    _kill_when(lambda: commits() != before, pipeline.job("backfill-import", run_id=LANDED))


def _kill_when(condition: Callable[[], bool], command: list[str]) -> None:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        while not condition():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()
