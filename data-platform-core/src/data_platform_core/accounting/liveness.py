"""A7: how long until everything that was in the topics is in bronze and silver.

The stream commits its progress to the consumer group `ingest_<entity>`, which is cheap to read but only reports what it
believes; what counts is that the last record of each partition is in bronze, and silver has taken the same batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow.dataset as ds
from confluent_kafka import Consumer, TopicPartition
from deltalake import DeltaTable

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.kafka.client import REQUEST_TIMEOUT_S, kafka_errors, reader, watermarks
from data_platform_core.kafka.committed import last_delivered
from data_platform_core.lake import lineage
from data_platform_core.lake.delta import TableMissingError, delta_table, store_errors, table_rows
from data_platform_core.lake.marks import RECENT_COMMITS
from data_platform_core.settings import ObjectStoreSettings, Settings

#: Between looks at the group's lag, seconds.
POLL_S = 1.0
#: The tables are asked this often even when the group says that it lags: it may have missed a commit. Seconds.
TABLE_CHECK_S = 10.0

Marks = Mapping[int, tuple[int, int]]


@dataclass(frozen=True)
class Drained:
    """`marks` (first kept offset and end, by entity and partition) are of the moment when waiting began.

    `waiting` has the entities that were not drained after `seconds`, with the lag in records of their consumer group.
    """

    seconds: float
    marks: Mapping[str, Marks]
    waiting: Mapping[str, int] = field(default_factory=dict)


def topic_marks(settings: Settings, contracts: Mapping[str, Contract]) -> dict[str, dict[int, tuple[int, int]]]:
    """First kept offset and end of each partition, by entity. Raises ServiceError when a topic is missing."""
    found = {}
    with kafka_errors(settings.kafka, "asking for offsets"), reader(settings.kafka) as consumer:
        for entity, contract in contracts.items():
            found[entity] = watermarks(consumer, contract.names.topic)
            if not found[entity]:
                raise ServiceError(f"topic {contract.names.topic} does not exist; create it with `crm topics apply`")
    return found


def wait_until_drained(
    settings: Settings,
    contracts: Mapping[str, Contract],
    timeout_s: float,
    on_progress: Callable[[Mapping[str, int]], None] | None = None,
) -> Drained:
    """Wait until bronze and silver hold all that the topics hold now, at most `timeout_s` seconds.

    `on_progress` receives the lag in records of each entity that is not drained yet. Raises ServiceError when Kafka
    or the object store do not answer; not being drained in time is for the caller to judge.
    """
    started = time.monotonic()
    marks = topic_marks(settings, contracts)
    last = {entity: last_offsets(of) for entity, of in marks.items()}
    asked: set[str] = set()
    lags = {entity: _lag(settings, contracts[entity], marks[entity]) for entity in contracts}
    next_check = started
    while True:
        due = time.monotonic() >= next_check
        for entity, lag in list(lags.items()):
            if (lag == 0 or due) and in_tables(settings.object_store, contracts[entity], last[entity]):
                del lags[entity]
            elif entity not in asked and (lag == 0 or time.monotonic() - started >= TABLE_CHECK_S):
                asked.add(entity)  # what is last may be the end of a transaction: no record, in no table
                last[entity] = last_records(settings, contracts[entity], marks[entity])
        if due:
            next_check = time.monotonic() + TABLE_CHECK_S
        seconds = time.monotonic() - started
        if on_progress:
            on_progress(lags)
        if not lags or seconds >= timeout_s:
            return Drained(seconds, marks, lags)
        time.sleep(min(POLL_S, max(0.0, timeout_s - seconds)))
        lags = {entity: _lag(settings, contracts[entity], marks[entity]) for entity in lags}


def _lag(settings: Settings, contract: Contract, marks: Marks) -> int:
    """Records of the topic that the stream's group has not committed, up to the end in `marks`."""
    with (
        kafka_errors(settings.kafka, f"asking for the offsets of group {contract.names.query}"),
        reader(settings.kafka, contract.names.query) as consumer,
    ):
        committed = committed_offsets(consumer, contract.names.topic, marks)
    return sum(max(0, end - max(start, committed.get(number, 0))) for number, (start, end) in marks.items())


def committed_offsets(consumer: Consumer, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """What the consumer's group has committed, by partition; negative for nothing yet."""
    asked = [TopicPartition(topic, number) for number in partitions]
    return {found.partition: found.offset for found in consumer.committed(asked, timeout=REQUEST_TIMEOUT_S)}


def last_offsets(marks: Marks) -> dict[int, int]:
    """The last offset by partition, of those that have one."""
    return {number: end - 1 for number, (start, end) in marks.items() if end > start}


def last_records(settings: Settings, contract: Contract, marks: Marks) -> dict[int, int]:
    """Offset of the last record by partition, of those that have one, as the broker delivers them."""
    topic = contract.names.topic
    found = {number: last_delivered(settings.kafka, topic, number, *kept) for number, kept in marks.items()}
    return {number: offset for number, offset in found.items() if offset is not None}


def in_tables(settings: ObjectStoreSettings, contract: Contract, last: Mapping[int, int]) -> bool:
    """Whether bronze has the record at the offset `last` of each partition, and silver the batch that brought it."""
    if not last:
        return True
    try:
        bronze = delta_table(settings, contract.names.bronze)
        silver = delta_table(settings, contract.names.silver)
    except TableMissingError:
        return False
    wanted = None
    for number, offset in last.items():
        one = (ds.field("partition") == number) & (ds.field("offset") == offset)
        wanted = one if wanted is None else wanted | one
    with store_errors(settings, settings.lake_bucket):
        rows = table_rows(settings, bronze).to_table(columns=["partition"], filter=wanted)
        if set(rows["partition"].to_pylist()) != set(last):
            return False
        # Bronze and silver take a batch side by side: silver may be a moment behind.
        return newest_batch(silver, contract.names.query) >= newest_batch(bronze, contract.names.query)


def newest_batch(table: DeltaTable, query: str) -> int:
    """The newest micro-batch of `query` that the table has taken, by the marks of its commits; -1 for none."""
    for limit in (RECENT_COMMITS, None):
        newest = lineage.newest_batch(map(lineage.commit_of, table.history(limit)), query)
        if newest >= 0:
            return newest
    return -1
