"""The stream reports its metrics, lag and executors, and compacts its tables while it runs."""

from __future__ import annotations

import json
import time

import story
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable
from minio import Minio
from pipeline import Pipeline
from story import scrape, value

from data_platform_core.contracts import Contract
from data_platform_core.lake.store import delta_options
from data_platform_core.naming import names

pytestmark = story.MARKS


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


def test_compaction_leaves_fewer_files_than_the_stream_wrote(compacted: Pipeline, store: Minio) -> None:
    for folder in (names("events").silver, names("events").bronze):
        found = table(compacted, folder)
        bucket = compacted.settings("streaming").object_store.lake_bucket
        written = [item for item in store.list_objects(bucket, f"{folder}/", recursive=True)]
        data = [
            item for item in written if item.object_name.endswith(".parquet") and "_delta_log" not in item.object_name
        ]
        operations = [commit["operation"] for commit in found.history()]
        # A compaction writes one file at least. How many batches came after the last one depends on the machine.
        by_the_stream = len(data) - operations.count("OPTIMIZE")
        assert len(found.file_uris()) < by_the_stream, folder
        assert "OPTIMIZE" in operations, folder


def test_a_commit_of_compaction_carries_the_streams_mark(compacted: Pipeline) -> None:
    history = table(compacted, names("events").silver).history()
    marks = [json.loads(c["userMetadata"]) for c in history if c["operation"] == "OPTIMIZE"]
    newest = max(json.loads(c["userMetadata"])["batch"] for c in history if c.get("userMetadata"))
    assert marks
    assert all(mark["query"] == names("events").query and 0 <= mark["batch"] <= newest for mark in marks)


def test_the_metrics_count_what_kafka_counts(compacted: Pipeline, contracts: dict[str, Contract]) -> None:
    samples = scrape(compacted)
    for entity, contract in contracts.items():
        arrived = sum(ends(compacted, contract).values())  # the driver has run since the first record
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


def test_a_drained_stream_has_no_lag_and_its_group_is_at_the_end(
    compacted: Pipeline, contracts: dict[str, Contract]
) -> None:
    client = AdminClient({"bootstrap.servers": compacted.settings("streaming").kafka.bootstrap_servers})
    time.sleep(2.5)  # two lag queries
    samples = scrape(compacted)
    for entity, contract in contracts.items():
        end = ends(compacted, contract)
        group = contract.names.query
        found = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(10)
        assert {place.partition: place.offset for place in found.topic_partitions} == end
        assert value(samples, "partitions", entity=entity) == len(end)
        for partition in end:
            labels = frozenset({("entity", entity), ("partition", str(partition))})
            assert samples["crm_streaming_lag_records", labels] == 0
            assert samples["crm_streaming_lag_seconds", labels] == 0


def test_the_driver_reports_its_executors(compacted: Pipeline) -> None:
    samples = scrape(compacted)
    assert value(samples, "executors") == 1
    assert value(samples, "task_slots") == 2
