"""Finds the rows added to a Delta table between two versions, from its transaction log.

Silver is append-only, so new rows are in the files of `add` actions with `dataChange` true. Compaction rewrites files
with `dataChange` false, which are skipped. The log format is the open Delta protocol's. Table features that change the
meaning of data files (deletion vectors, column mapping) are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from data_platform_core.errors import ServiceError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_ACTION_SCHEMA = (
    "add struct<path: string, dataChange: boolean, stats: string, deletionVector: struct<storageType: string>>, "
    "remove struct<path: string, dataChange: boolean>"
)
_REFUSED_FEATURES = ("columnMapping", "deletionVectors")


class LogGapError(Exception):
    """The log or a data file of the requested versions was cleaned up: read the whole table instead."""


@dataclass(frozen=True)
class TableState:
    """Identity and newest version of a Delta table."""

    uri: str
    table_id: str
    version: int


@dataclass(frozen=True)
class LogAction:
    """An `add` or `remove` of a commit. `rows` is the writer's row count of an added file, None if missing."""

    version: int
    kind: str
    path: str
    data_change: bool
    rows: int | None = None
    has_deletions: bool = False


@dataclass(frozen=True)
class AddedFiles:
    """Paths as in the log, and their row count from the log; None if a file has no count."""

    paths: tuple[str, ...]
    rows: int | None


def added_files(uri: str, actions: Iterable[LogAction]) -> AddedFiles:
    """The files with new rows. Raises ServiceError when a commit removed rows."""
    paths: list[str] = []
    rows: int | None = 0
    for action in actions:
        if not action.data_change:
            continue
        if action.kind == "remove" or action.has_deletions:
            raise ServiceError(
                f"table {uri}: version {action.version} removed rows, which an incremental load can't follow; "
                "load it anew with --rebuild, then run dbt with --full-refresh"
            )
        paths.append(action.path)
        rows = None if rows is None or action.rows is None else rows + action.rows
    return AddedFiles(tuple(paths), rows)


def table_state(spark: SparkSession, uri: str) -> TableState:
    """Identity and newest version. Raises ServiceError if the table does not exist or can't be read by files."""
    from delta.tables import DeltaTable

    if not DeltaTable.isDeltaTable(spark, uri):
        raise ServiceError(f"table {uri} does not exist; the streaming job creates it, start it first (`make up`)")
    table = DeltaTable.forPath(spark, uri)
    detail = table.detail().select("id", "tableFeatures").first()
    newest = table.history(1).select("version").first()
    if detail is None or newest is None:
        raise ServiceError(f"table {uri} has no history; is it a Delta table?")
    refused = [feature for feature in _REFUSED_FEATURES if feature in (detail["tableFeatures"] or ())]
    if refused:
        raise ServiceError(
            f"table {uri} has the Delta feature {refused[0]}, which the load doesn't read; drop the feature"
        )
    return TableState(uri, detail["id"], newest["version"])


def read_actions(spark: SparkSession, uri: str, first: int, last: int) -> list[LogAction]:
    """The data-changing actions of versions `first` to `last`. Raises LogGapError if a commit no longer exists."""
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as F

    commits = [f"{uri}/_delta_log/{version:020d}.json" for version in range(first, last + 1)]
    try:
        log = spark.read.schema(_ACTION_SCHEMA).json(commits)
    except AnalysisException as error:
        raise _gap_or(error) from error
    rows = log.where("add.dataChange OR remove.dataChange").select(
        F.element_at(F.split(F.col("_metadata.file_name"), "\\."), 1).cast("long").alias("version"),
        F.when(F.col("add").isNotNull(), "add").otherwise("remove").alias("kind"),
        F.coalesce("add.path", "remove.path").alias("path"),
        F.get_json_object("add.stats", "$.numRecords").cast("long").alias("rows"),
        F.col("add.deletionVector").isNotNull().alias("has_deletions"),
    )
    return [
        LogAction(row["version"], row["kind"], row["path"], True, row["rows"], row["has_deletions"])
        for row in rows.collect()
    ]


def read_files(spark: SparkSession, uri: str, paths: Iterable[str]) -> DataFrame:
    """The rows of data files of a table, with its newest schema. Raises LogGapError when a file was vacuumed."""
    from pyspark.errors import AnalysisException

    schema = spark.read.format("delta").load(uri).schema
    # Paths in the log are URL-encoded and relative to the table, unless the table was cloned.
    full = [unquote(path) if "://" in path else f"{uri}/{unquote(path)}" for path in paths]
    try:
        return spark.read.schema(schema).option("basePath", uri).parquet(*full)
    except AnalysisException as error:
        raise _gap_or(error) from error


def read_snapshot(spark: SparkSession, state: TableState) -> DataFrame:
    """All rows of the table at the state's version."""
    return spark.read.format("delta").option("versionAsOf", state.version).load(state.uri)


def _gap_or(error: Exception) -> Exception:
    return LogGapError(str(error)) if "PATH_NOT_FOUND" in str(error) else error
