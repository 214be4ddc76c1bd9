"""Loads silver into the warehouse: each row once, despite kills, as a Spark job that scales with its executors.

Per entity and step: read the Delta table's new rows since the version in `platform.loads`, COPY them from the executors
into a loading table, then move them in one transaction that also records the new version. A run that is killed before
that commit has changed nothing. The next run starts from the same version (ADR 0006). So a load waits for PostgreSQL or
the object store during an outage, within bounds, and restarts the entity from the last commit.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

import psycopg
import structlog
from psycopg import sql

from data_platform_core.batch.copy_format import copy_lines
from data_platform_core.batch.delta_log import (
    LogGapError,
    TableState,
    added_files,
    read_actions,
    read_files,
    read_snapshot,
    table_state,
)
from data_platform_core.batch.progress import JobProgress
from data_platform_core.contracts import Contract, load_contract, load_contracts
from data_platform_core.errors import ServiceError, UnreachableError
from data_platform_core.lake.spark_errors import Cause, one_line, spark_errors, store_advice
from data_platform_core.settings import PostgresSettings, Settings
from data_platform_core.warehouse import loads
from data_platform_core.warehouse.columns import silver_columns
from data_platform_core.warehouse.connections import POSTGRES, connect
from data_platform_core.warehouse.loads import LastLoad, LoadResult, Mode, Step
from data_platform_core.warehouse.outage import PATIENCE_S, connected, resumed

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

#: Commits per step: bounds the driver's list of files and the final transaction, even after a long pause.
MAX_COMMITS_PER_STEP = 1_000

#: Classes of SQLSTATE for a lost server or connection.
_CONNECTION_LOST = ("08", "57")

_Result = TypeVar("_Result")

log = structlog.get_logger(__name__)


def run(settings: Settings, entities: Sequence[str] = (), *, rebuild: bool = False) -> list[LoadResult]:
    """Load `entities` (default: all) up to silver's newest version; what was committed, in order.

    `rebuild` empties each landing table and loads the whole of silver, in one transaction per entity. Raises
    ServiceError when a service refuses us, another load runs, or silver lost rows; nothing is half-written then.
    """
    from data_platform_core.lake.session import spark_session
    from data_platform_core.lake.store import require_lake
    from data_platform_core.lake.terminal import jvm_output_aside

    contracts = [load_contract(entity) for entity in entities] if entities else list(load_contracts().values())
    # Checked before Spark starts: a wrong password is reported in a second, not in twenty.
    with connect(settings.postgres, "crm-load", autocommit=True) as connection:
        for contract in contracts:
            loads.last_load(connection, contract.entity)
    require_lake(settings.object_store)
    log.info("starting spark", entities=[contract.entity for contract in contracts])
    with jvm_output_aside(settings, "crm-load-warehouse"):
        spark = spark_session(settings, "crm-load-warehouse", short=True)
    try:
        return load_all(spark, settings, contracts, rebuild=rebuild)
    finally:
        spark.stop()


def load_all(
    spark: SparkSession,
    settings: Settings,
    contracts: Iterable[Contract],
    *,
    rebuild: bool = False,
    patience_s: float = PATIENCE_S,
) -> list[LoadResult]:
    """`run` in an existing session; `patience_s` limits the wait during an outage."""
    if spark.sparkContext.master.startswith("local"):
        # Local workers must be this environment's Python; elsewhere the image decides.
        spark.sparkContext.pythonExec = sys.executable
    load_run = f"load-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
    return _side_by_side(
        [
            partial(resumed, partial(_load_entity, spark, settings, contract, load_run, rebuild), patience_s)
            for contract in contracts
        ]
    )


def _side_by_side(entities: Sequence[Callable[[], list[LoadResult]]]) -> list[LoadResult]:
    """Load all entities at once: most of a small load is one entity waiting for plans and answers (ADR 0006).

    An entity that fails does not keep the others from being loaded; the first failure is raised, the rest are logged.
    """
    with ThreadPoolExecutor(len(entities), thread_name_prefix="load") as pool:
        loading = [pool.submit(entity) for entity in entities]
    failures = [failure for entity in loading if (failure := entity.exception()) is not None]
    for failure in failures[1:]:
        log.error("not loaded", reason=one_line(str(failure)))
    if failures:
        raise failures[0]
    return list(chain.from_iterable(entity.result() for entity in loading))


def _load_entity(
    spark: SparkSession, settings: Settings, contract: Contract, load_run: str, rebuild: bool
) -> list[LoadResult]:
    entity = contract.entity
    try:
        # Closing the connection releases the lock in every case.
        with connected(settings.postgres, "crm-load", autocommit=True) as connection:
            loads.lock_entity(connection, entity)
            return list(_steps(spark, settings, contract, connection, load_run, rebuild))
    except psycopg.errors.InsufficientPrivilege as error:
        raise ServiceError(
            f"PostgreSQL user {settings.postgres.user!r} may not load {entity} ({error.diag.message_primary}); "
            "check CRM_POSTGRES__USER, or run the migrations again"
        ) from None
    except psycopg.Error as error:
        raise _refusal(settings.postgres, entity, error) from None


def _refusal(postgres: PostgresSettings, entity: str, error: psycopg.Error) -> ServiceError:
    """One line for an error of the driver's connection."""
    reason = error.diag.message_primary or one_line(str(error))
    if isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08")[:2] in _CONNECTION_LOST:
        return UnreachableError(
            POSTGRES,
            f"PostgreSQL {postgres.host}:{postgres.port} was lost while loading {entity} ({reason}); nothing of the "
            "current step was stored, run the load again",
        )
    return ServiceError(
        f"{postgres_failure(postgres, entity, f'{type(error).__name__}: {reason}')}; nothing was stored"
    )


def _steps(
    spark: SparkSession,
    settings: Settings,
    contract: Contract,
    connection: psycopg.Connection,
    load_run: str,
    rebuild: bool,
) -> Iterator[LoadResult]:
    """Load step by step until the version that was the newest at the start."""
    state = _from_lake(
        settings, contract.entity, lambda: table_state(spark, settings.object_store.lake_uri(contract.names.silver))
    )
    last = loads.last_load(connection, contract.entity)
    if next_mode(state, last, rebuild) is None:
        log.info("up to date", entity=contract.entity, delta_version=state.version)
    while (mode := next_mode(state, last, rebuild)) is not None:
        goes_on = last is not None and last.delta_table_id == state.table_id and mode != "rebuild"
        from_version = last.delta_version if last is not None and goes_on else -1
        to_version = min(state.version, from_version + MAX_COMMITS_PER_STEP) if mode == "incremental" else state.version
        step = Step(
            contract.entity, load_run, mode, state.table_id, from_version, to_version, started_at=datetime.now(UTC)
        )
        result = _load_step(spark, settings, contract, connection, step, state)
        _report(result)
        yield result
        last, rebuild = LastLoad(state.table_id, result.step.delta_version), False


def next_mode(state: TableState, last: LastLoad | None, rebuild: bool = False) -> Mode | None:
    """The next step from `last` to `state`; None if there is nothing to do.

    Raises ServiceError when the table is older than what was loaded from it.
    """
    if rebuild:
        return "rebuild"
    if last is None:
        return "snapshot"
    if last.delta_table_id != state.table_id:
        # Recreated, for example ingested again from Kafka: known rows are recognised by their key.
        return "snapshot"
    if last.delta_version > state.version:
        raise ServiceError(
            f"table {state.uri} is at version {state.version}, but version {last.delta_version} of it has been loaded; "
            "was it restored from a backup? Reload it with --rebuild, then run dbt with --full-refresh"
        )
    return "incremental" if last.delta_version < state.version else None


def _load_step(
    spark: SparkSession,
    settings: Settings,
    contract: Contract,
    connection: psycopg.Connection,
    step: Step,
    state: TableState,
) -> LoadResult:
    if step.mode == "incremental":
        try:
            rows, expected = _from_lake(settings, step.entity, lambda: _gained(spark, step, state.uri))
        except LogGapError as gap:
            log.warning("log or files are gone, reading the whole table", entity=step.entity, reason=str(gap)[:200])
            values = vars(step) | {"mode": "snapshot", "delta_version": state.version}
            return _load_step(spark, settings, contract, connection, Step(**values), state)
    else:
        rows, expected = _from_lake(settings, step.entity, lambda: (read_snapshot(spark, state), None))
    table = loads.create_loading_table(connection, contract)
    attempts = _copy(spark, settings, contract, rows, table) if rows is not None else {}
    copied = sum(attempts.values())
    if expected is not None and copied != expected:
        raise ServiceError(
            f"table {state.uri}: its log says {expected} rows in versions {step.from_version + 1} to "
            f"{step.delta_version}, {copied} were read; nothing was stored, compare the table with another reader"
        )
    log.info("committing", entity=step.entity, rows=copied)
    return loads.commit_load(connection, contract, step, table, attempts)


def _gained(spark: SparkSession, step: Step, uri: str) -> tuple[DataFrame | None, int | None]:
    """Rows of the files added in the step's versions (None: no file), and their count from the log."""
    added = added_files(uri, read_actions(spark, uri, step.from_version + 1, step.delta_version))
    return (read_files(spark, uri, added.paths) if added.paths else None), added.rows


def _copy(
    spark: SparkSession, settings: Settings, contract: Contract, rows: DataFrame, table: sql.Identifier
) -> dict[int, int]:
    """COPY from the executors. Returns rows by successful task attempt: one per task, despite retries."""
    lines = copy_lines(rows, silver_columns(contract))
    copied = lines.mapInArrow(_copy_task(settings.postgres, table), "attempt LONG, rows LONG")
    with JobProgress(spark, f"load {contract.entity}", entity=contract.entity):
        return {row["attempt"]: row["rows"] for row in _from_lake(settings, contract.entity, copied.collect)}


def _copy_task(
    postgres: PostgresSettings, table: sql.Identifier
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """An executor's work on its partition: one COPY, then one row with the attempt and its row count."""

    def copy(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        from pyspark import TaskContext

        context = TaskContext.get()
        first = next((batch for batch in batches if batch.num_rows), None)
        if first is None or context is None:
            return
        attempt = context.taskAttemptId()
        chunks = (batch.column(0).to_pylist() for batch in chain([first], batches))
        written = loads.copy_lines(postgres, table, attempt, chunks)
        yield pa.RecordBatch.from_pydict({"attempt": [attempt], "rows": [written]})

    return copy


def _report(result: LoadResult) -> None:
    step = result.step
    seconds = round((datetime.now(UTC) - step.started_at).total_seconds(), 1)
    log.info(
        "loaded",
        entity=step.entity,
        mode=step.mode,
        delta_version=step.delta_version,
        rows=result.rows,
        rows_known=result.rows_known,
        seconds=seconds,
    )
    if result.rows_known and step.mode == "incremental":
        log.warning("rows were stored before under the same event_id", entity=step.entity, rows=result.rows_known)


def _from_lake(settings: Settings, entity: str, action: Callable[[], _Result]) -> _Result:
    """Run a read of the lake; Spark's errors become one line."""
    with spark_errors(lambda found: _explained(settings, entity, found), POSTGRES):
        return action()


def _explained(settings: Settings, entity: str, found: Cause) -> str:
    """One line that names the cause: PostgreSQL, the object store, or a value of the entity."""
    if found.kind == "ours":
        return found.text
    if found.kind == "postgres":
        what = postgres_failure(settings.postgres, entity, found.text)
    elif found.kind == "store":
        what = store_advice(settings.object_store, found.text)
    else:
        what = (
            f"a value in silver of {entity} can't be loaded: {found.text}; the services are well: report it with "
            "this line"
        )
    return f"{what}; nothing of the current step was stored"


def postgres_failure(postgres: PostgresSettings, entity: str, reason: str) -> str:
    """PostgreSQL's error while it loaded an entity, as one line."""
    return (
        f"PostgreSQL {postgres.host}:{postgres.port} could not load {entity} ({reason}); mend that, then run the load "
        "again"
    )
