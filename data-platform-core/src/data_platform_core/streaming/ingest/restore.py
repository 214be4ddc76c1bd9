"""Takes an entity back to an earlier version: both tables and the checkpoint together, so that nothing is lost.

The stream then reads from Kafka again what it had read since. So a restore is refused when Kafka, a log or a data
file no longer has what that needs. Every step leaves a state in which the stream refuses to start or continues without
a loss, and a second restore to the same version finishes an interrupted one (ADR 0027).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
import structlog
from deltalake import DeltaTable
from pyarrow.fs import FileType

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.kafka.client import KAFKA, topic_id
from data_platform_core.kafka.offsets import retained
from data_platform_core.lake.delta import delta_table, store_errors, table_rows
from data_platform_core.lake.lineage import APPEND, RESTORE, Commit, lineage, newest_batch
from data_platform_core.lake.marks import Mark, batch_mark, mark_of
from data_platform_core.lake.session import spark_session
from data_platform_core.lake.spark_errors import spark_errors
from data_platform_core.lake.store import arrow_store, lake_object
from data_platform_core.lake.terminal import jvm_output_aside
from data_platform_core.lake.versions import TableVersions
from data_platform_core.naming import landing_manifest
from data_platform_core.settings import ObjectStoreSettings, Settings
from data_platform_core.streaming.ingest.checkpoint import Checkpoint
from data_platform_core.streaming.ingest.rewind import COMMITS, OFFSETS, StoredLogs, ends, steps, with_ends
from data_platform_core.streaming.ingest.writer import WriterProcess

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_IMPORT = "import_"
_UNCHANGED = "so nothing was changed"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Target:
    """Versions of both tables that end with the same micro-batch of the stream, `batch`.

    `imports`: runs of lake backfills whose rows a restore takes away.
    """

    silver: int
    bronze: int
    batch: int
    imports: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a restore does. `positions`: by partition, the offset that the stream reads next; `offsets` as Spark's file.

    `replayed`: offsets that it reads again.
    """

    contract: Contract
    target: Target
    positions: Mapping[int, int]
    replayed: int
    offsets: str

    @property
    def lines(self) -> list[str]:
        """The plan for a person."""
        target, names = self.target, self.contract.names
        again = [f"crm lake import --run-id {run}" for run in target.imports]
        after = ["the stream", *again, "crm load --rebuild", "crm dbt build --full-refresh"]
        return [
            f"{names.silver} goes back to version {target.silver}, {names.bronze} to {target.bronze}: both end with "
            f"batch {target.batch}",
            f"the stream reads {self.replayed:,} offsets of {names.topic} again",
            f"afterwards start, in this order: {', '.join(after)}",
        ]


def plan(settings: Settings, contract: Contract, wanted: str) -> Plan:
    """What a restore to `wanted` (a version of silver, or a time) does; it only reads.

    Raises ConfigurationError when there is no such version, ServiceError when going there would lose records.
    """
    store, names = settings.object_store, contract.names
    silver, bronze = (TableVersions(store, contract, layer) for layer in ("silver", "bronze"))
    target = find_target(contract, silver.commits(), bronze.commits(), silver.find(wanted))
    for run in target.imports:
        if lake_object(store, landing_manifest(run)) is None:
            raise ServiceError(
                f"run {run} was imported after version {target.silver} and its files are gone from the lake: its rows "
                f"could not be imported again, {_UNCHANGED}"
            )
    old = {folder: delta_table(store, folder, version) for folder, version in (
        (names.bronze, target.bronze), (names.silver, target.silver)
    )}  # fmt: skip
    for folder, table in old.items():
        _require_files(store, folder, table)
    kept = retained(settings.kafka, names.topic)
    positions = {**dict.fromkeys(kept, 0), **_read_so_far(store, names.topic, old[names.bronze])}
    require_retained(names.topic, positions, kept)
    logs = StoredLogs(store, names.checkpoint)
    planned, finished = (logs.batches(name) for name in (OFFSETS, COMMITS))
    if not planned or not finished:
        raise ServiceError(f"checkpoint {names.checkpoint} has no batch; restore it first, {_UNCHANGED}")
    newest = logs.read(OFFSETS, planned[-1])
    reached = ends(newest, names.topic)
    replayed = sum(max(0, reached.get(partition, 0) - offset) for partition, offset in positions.items())
    return Plan(contract, target, positions, replayed, with_ends(newest, names.topic, positions))


def find_target(contract: Contract, silver: list[Commit], bronze: list[Commit], version: int) -> Target:
    """The version of bronze that belongs to `version` of silver: that of the same last batch, stream's or import's.

    Batch numbers are used again after a restore, so both commits must also follow the same restore. Raises
    ServiceError when there is none. Pure.
    """
    query, kept = contract.names.query, list(lineage(silver, version))
    last, batch = _last_append(kept), newest_batch(silver, query, version)
    if last is None or batch < 0:
        raise ServiceError(
            f"table {contract.names.silver} has no batch of the stream at version {version}, as far as its log goes "
            f"back: choose a later version; to ingest from the beginning, move checkpoint and both tables away"
        )
    commit, mark = last
    same = [
        one.version
        for one in bronze
        if one.operation == APPEND and _batch(one.mark) == (mark.query, mark.batch)
        and _restored_by(bronze, one.version) == _restored_by(silver, commit.version)
    ]  # fmt: skip
    # The first: a batch is there twice when a writer wrote in spite of the fence.
    found = min(same, default=None)
    if found is None or newest_batch(bronze, query, found) != batch:
        raise ServiceError(
            f"table {contract.names.bronze} has no version that ends with batch {mark.batch} of {mark.query}, as "
            f"version {version} of {contract.names.silver} does; choose an earlier or later version"
        )
    taken = {one.version for one in lineage(silver)} - {one.version for one in kept}
    marks = (mark_of(one.mark) for one in silver if one.version in taken and one.operation == APPEND)
    prefix = f"{_IMPORT}{contract.entity}/"
    runs = (mark.query.removeprefix(prefix) for mark in marks if mark is not None and mark.query.startswith(prefix))
    return Target(version, found, batch, tuple(sorted(set(runs))))


def _last_append(kept: Iterable[Commit]) -> tuple[Commit, Mark] | None:
    marked = ((commit, mark_of(commit.mark)) for commit in kept if commit.operation == APPEND)
    return next(((commit, mark) for commit, mark in marked if mark is not None), None)


def _batch(metadata: object) -> tuple[str, int] | None:
    mark = mark_of(metadata)
    return None if mark is None else (mark.query, mark.batch)


def _restored_by(commits: Iterable[Commit], version: int) -> int:
    """The epoch of the newest restore at or before a version, 0 for none: each has one of its own, for both tables."""
    restores = [commit for commit in commits if commit.operation == RESTORE and commit.version <= version]
    if not restores:
        return 0
    newest = max(restores, key=lambda commit: commit.version)
    mark = mark_of(newest.mark)
    return -newest.version if mark is None else mark.epoch  # below 0: by other means, so of this table alone


def _require_files(store: ObjectStoreSettings, folder: str, old: DeltaTable) -> None:
    """Raise ServiceError when a file of the version was deleted: files are kept for a week after their last version."""
    newest = delta_table(store, folder)
    there, now = (set(table.get_add_actions(flatten=True)["path"].to_pylist()) for table in (old, newest))
    paths = sorted(unquote(path) for path in there - now)
    with store_errors(store, store.lake_bucket):
        found = arrow_store(store, f"{store.lake_bucket}/{folder}").get_file_info(paths)
    gone = [info.path for info in found if info.type == FileType.NotFound]
    if gone:
        raise ServiceError(
            f"{len(gone):,} files of version {old.version()} of table {folder} were deleted, {gone[0]} for one: files "
            f"that no version needs are kept for a week; choose a later version, {_UNCHANGED}"
        )


def _read_so_far(store: ObjectStoreSettings, topic: str, bronze: DeltaTable) -> dict[int, int]:
    """By partition of the topic one more than the last offset that bronze has."""
    found: dict[int, int] = {}
    rows = table_rows(store, bronze)
    with store_errors(store, store.lake_bucket):
        for batch in rows.to_batches(columns=["partition", "offset"], filter=ds.field("topic") == topic):
            newest = pa.table(batch).group_by("partition").aggregate([("offset", "max")])
            for row in newest.to_pylist():
                found[row["partition"]] = max(found.get(row["partition"], 0), row["offset_max"] + 1)
    return found


def require_retained(topic: str, positions: Mapping[int, int], kept: Mapping[int, tuple[int, int]]) -> None:
    """Raise ServiceError unless Kafka still has every record from `positions` on. `kept`: first and next offset."""
    for partition, offset in sorted(positions.items()):
        first, end = kept.get(partition, (0, 0))
        if offset < first:
            raise ServiceError(
                f"topic {topic}, partition {partition}: the stream would read from offset {offset:,}, and Kafka's "
                f"retention has deleted what is before {first:,}: up to {first - offset:,} records would be lost, "
                f"{_UNCHANGED}; choose a later version, or read the old one where it is: `crm lake diff`"
            )
        if offset > end:
            raise ServiceError(
                f"topic {topic}, partition {partition}: bronze has records up to offset {offset:,}, Kafka's next is "
                f"{end:,}; is it another topic of the same name? {_UNCHANGED}"
            )


def restore(settings: Settings, contract: Contract, version: int) -> Plan:
    """Take both tables to `version` of silver and the checkpoint with them; returns what was done.

    Raises LeaseHeldError when a stream or an import runs, and as `plan` does: then nothing was changed.
    """
    writer = WriterProcess(settings, "lake-restore")
    writer.acquire()
    try:
        with jvm_output_aside(settings, "crm-lake-restore"):
            spark = spark_session(settings, "crm-lake-restore", short=True)
        try:
            with spark_errors(lambda found: f"restore of {contract.entity} failed: {found.text}; run it again", KAFKA):
                writer.started(spark)
                made = plan(settings, contract, str(version))  # anew: until now a stream may have run
                _carry_out(spark, settings, writer, made)
            return made
        finally:
            spark.stop()
    finally:
        writer.lease.release()


def _carry_out(spark: SparkSession, settings: Settings, writer: WriterProcess, made: Plan) -> None:
    from delta.tables import DeltaTable as SparkTable

    names, target = made.contract.names, made.target
    checkpoint = Checkpoint(spark, settings.object_store.lake_uri(names.checkpoint))
    checkpoint.refuse_other_topic(names.topic, topic_id(settings.kafka, names.topic))
    mark = batch_mark(names.query, target.batch, writer.lease.epoch)
    spark.conf.set("spark.databricks.delta.commitInfo.userMetadata", mark)
    for folder, version in ((names.bronze, target.bronze), (names.silver, target.silver)):
        writer.lease.check()
        SparkTable.forPath(spark, settings.object_store.lake_uri(folder)).restoreToVersion(version)
        log.info("restored", table=folder, version=version)
    for step in steps(StoredLogs(settings.object_store, names.checkpoint), target.batch, made.offsets):
        writer.lease.check()
        step()
    log.info("checkpoint rewound", entity=made.contract.entity, batch=target.batch)
