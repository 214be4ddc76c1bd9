"""The stream tells of itself, and compacts its tables while it runs; the accounts stay right."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable
from minio import Minio
from pipeline import Pipeline
from prometheus_client.parser import text_string_to_metric_families

from data_platform_core.contracts import Contract
from data_platform_core.lake.store import delta_options
from data_platform_core.naming import names
from data_platform_core.topology import load_topology
from embedded_stack.credentials import write_secret
from embedded_stack.layout import Layout

pytestmark = pytest.mark.e2e

RUN = "e2e-compacted"
EAGER = {"COMPACT_EVERY_S": "2", "COMPACT_MIN_FILES": "4"}
WAIT_S = 120
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(pipeline: Pipeline) -> Samples:
    metrics = pipeline.settings("streaming").metrics
    text = httpx.get(f"http://{metrics.streaming_host}:{metrics.streaming_port}/metrics").text
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((f"crm_streaming_{name}", frozenset(labels.items())), 0.0)


def ends(pipeline: Pipeline, contract: Contract) -> dict[int, int]:
    """The end of each partition, by a plain Kafka client."""
    kafka = pipeline.settings("streaming").kafka
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "recount"})
    try:
        topic = contract.names.topic
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10)[1] for n in partitions}
    finally:
        consumer.close()


def table(pipeline: Pipeline, folder: str) -> DeltaTable:
    store = pipeline.settings("streaming").object_store
    return DeltaTable(f"s3://{store.lake_bucket}/{folder}", storage_options=delta_options(store))


@pytest.fixture(scope="module")
def eager(pipeline: Pipeline) -> Pipeline:
    """A fresh driver that compacts as soon as there is something; its counters begin at zero."""
    path = Layout(load_topology(pipeline.environment)).secrets / "streaming.env"
    ours = path.read_text(encoding="utf-8")
    pipeline.drain()
    pipeline.stop_streaming()
    write_secret(path, ours + "".join(f"CRM_STREAMING__{name}={value}\n" for name, value in EAGER.items()))
    try:
        pipeline.start_streaming()
    finally:
        write_secret(path, ours)  # a driver reads it once, when it starts
    return pipeline


@pytest.fixture(scope="module")
def before(eager: Pipeline, contracts: dict[str, Contract]) -> dict[str, dict[int, int]]:
    """Each topic's ends before the run of this module."""
    return {entity: ends(eager, contract) for entity, contract in contracts.items()}


@pytest.fixture(scope="module")
def produced(eager: Pipeline, before: dict[str, dict[int, int]]) -> Pipeline:
    """A run during which both tables of events were compacted and the warehouse was loaded."""
    del before  # asked for first: it must be of the time before
    with eager.generating(RUN, seconds=40, rate=60):
        time.sleep(15)
        eager.load_and_build()
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        samples = scrape(eager)
        if all(value(samples, "compacted_files_total", entity="events", layer=la) for la in ("silver", "bronze")):
            break
        time.sleep(1)
    else:
        pytest.fail(f"events was not compacted within {WAIT_S} s")
    eager.drain()
    return eager


def test_compaction_leaves_fewer_files_than_the_stream_wrote(produced: Pipeline, store: Minio) -> None:
    for folder in (names("events").silver, names("events").bronze):
        found = table(produced, folder)
        bucket = produced.settings("streaming").object_store.lake_bucket
        written = [item for item in store.list_objects(bucket, f"{folder}/", recursive=True)]
        data = [
            item for item in written if item.object_name.endswith(".parquet") and "_delta_log" not in item.object_name
        ]
        assert len(found.file_uris()) < len(data) / 2, folder
        operations = {commit["operation"] for commit in found.history()}
        assert "OPTIMIZE" in operations, folder


def test_a_commit_of_compaction_carries_the_streams_mark(produced: Pipeline) -> None:
    history = table(produced, names("events").silver).history()
    marks = [json.loads(c["userMetadata"]) for c in history if c["operation"] == "OPTIMIZE"]
    newest = max(json.loads(c["userMetadata"])["batch"] for c in history if c.get("userMetadata"))
    assert marks
    assert all(mark["query"] == names("events").query and 0 <= mark["batch"] <= newest for mark in marks)


def test_loaded_twice_with_a_compaction_between_the_accounts_are_right(produced: Pipeline, tmp_path: Path) -> None:
    produced.load_and_build()
    report = produced.reconcile(RUN, tmp_path / "compacted.json")
    assert report["code"] == 0, report["printed"]


def test_the_metrics_count_what_kafka_counts(
    produced: Pipeline, contracts: dict[str, Contract], before: dict[str, dict[int, int]]
) -> None:
    samples = scrape(produced)
    for entity, contract in contracts.items():
        arrived = sum(ends(produced, contract).values()) - sum(before[entity].values())
        kinds = {
            kind: value(samples, "records_total", entity=entity, kind=kind)
            for kind in ("silver", "late", "duplicates", "dlq")
        }
        assert arrived > 0
        assert sum(kinds.values()) == arrived, entity
        # Every row of silver is in the histogram, once.
        assert value(samples, "latency_seconds_count", entity=entity) == kinds["silver"] + kinds["late"], entity
        assert value(samples, "latency_seconds_bucket", entity=entity, le="+Inf") == kinds["silver"] + kinds["late"]
        assert value(samples, "state_keys", entity=entity) >= kinds["silver"] + kinds["late"]
        assert value(samples, "state_bytes", entity=entity) == 16 * value(samples, "state_keys", entity=entity)


def test_a_drained_stream_has_no_lag_and_its_group_stands_at_the_end(
    produced: Pipeline, contracts: dict[str, Contract]
) -> None:
    client = AdminClient({"bootstrap.servers": produced.settings("streaming").kafka.bootstrap_servers})
    time.sleep(2.5)  # two looks
    samples = scrape(produced)
    for entity, contract in contracts.items():
        end = ends(produced, contract)
        group = contract.names.query
        found = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(10)
        assert {place.partition: place.offset for place in found.topic_partitions} == end
        assert value(samples, "partitions", entity=entity) == len(end)
        for partition in end:
            labels = frozenset({("entity", entity), ("partition", str(partition))})
            assert samples["crm_streaming_lag_records", labels] == 0
            assert samples["crm_streaming_lag_seconds", labels] == 0


def test_the_driver_tells_what_works_for_it(produced: Pipeline) -> None:
    samples = scrape(produced)
    assert value(samples, "executors") == 1
    assert value(samples, "task_slots") == 2
