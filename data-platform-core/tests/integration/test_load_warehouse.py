"""Silver reaches the warehouse once, regardless of what is killed, compacted or loaded at the same time."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import warehouse_trial
from psycopg import sql
from pydantic import SecretStr
from warehouse_trial import SettingsOf, append, in_trial_database, order, trial_contract, trial_settings

from data_platform_core.batch import load_warehouse
from data_platform_core.batch.load_warehouse import load_all
from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError
from data_platform_core.settings import Settings
from data_platform_core.topology import Topology
from data_platform_core.warehouse import loads
from data_platform_core.warehouse.connections import connect
from data_platform_core.warehouse.schema import migrate

pytestmark = pytest.mark.integration

__all__ = ["trial_settings"]

WAIT_S = 120
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def loading(trial_settings: SettingsOf) -> Settings:
    """The batch role's warehouse with the streaming account's lake: these tests write silver, too."""
    return trial_settings("batch").model_copy(update={"object_store": trial_settings("streaming").object_store})


@pytest.fixture(scope="module")
def lake(loading: Settings) -> Iterator[Any]:
    """A Spark session with Delta and S3; one that another module left is ended first."""
    from pyspark.sql import SparkSession

    from data_platform_core.lake.session import spark_session

    left = SparkSession.getActiveSession()
    if left is not None:
        left.stop()
    session = spark_session(loading, "test-load")
    yield session
    session.stop()


@pytest.fixture
def trial(lake: Any, loading: Settings, trial_settings: SettingsOf) -> Iterator[Contract]:
    """An entity of the test's own, like orders: an empty landing table; the first `append` makes its silver table."""
    contract = trial_contract("orders", f"trial_load_{next(_numbers)}")
    migrate(trial_settings("admin"), {contract.entity: contract})
    yield contract
    remove(lake, loading.object_store.lake_uri(contract.names.silver))


def remove(lake: Any, uri: str) -> None:
    path = lake._jvm.org.apache.hadoop.fs.Path(uri)
    path.getFileSystem(lake._jsparkSession.sessionState().newHadoopConf()).delete(path, True)


@pytest.fixture
def query(trial_settings: SettingsOf) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Rows of a query, with accounting's account."""
    with connect(trial_settings("accounting").postgres, "test", autocommit=True) as connection:
        yield lambda text, *values: connection.execute(text.encode(), values).fetchall()


def sequence(query: Any, contract: Contract) -> list[int]:
    """What has landed, with duplicates."""
    return [row[0] for row in query(f"SELECT seq FROM {contract.names.landing_table} ORDER BY seq")]


def test_each_load_brings_what_was_added_since_the_last_one(
    lake: Any, loading: Settings, trial: Contract, query: Any
) -> None:
    append(lake, loading, trial, [order(n) for n in range(10)])
    (first,) = load_all(lake, loading, [trial])
    append(lake, loading, trial, [order(n) for n in range(10, 15)])
    append(lake, loading, trial, [order(n) for n in range(15, 20)])
    (second,) = load_all(lake, loading, [trial])
    assert load_all(lake, loading, [trial]) == []

    assert sequence(query, trial) == list(range(20))
    assert [(first.step.mode, first.rows), (second.step.mode, second.rows)] == [("snapshot", 10), ("incremental", 10)]
    recorded = query(
        "SELECT load_id, rows, rows_known, delta_version FROM platform.loads WHERE entity = %s ORDER BY load_id",
        trial.entity,
    )
    assert recorded == [(first.load_id, 10, 0, 0), (second.load_id, 10, 0, 2)]
    by_load = query(f"SELECT load_id, count(*) FROM {trial.names.landing_table} GROUP BY 1 ORDER BY 1")
    assert by_load == [(first.load_id, 10), (second.load_id, 10)]


def test_values_arrive_exactly(lake: Any, loading: Settings, trial: Contract, query: Any) -> None:
    odd = order(
        1,
        amount_krw=9_223_372_036_854_775_807,
        lines=[(1, 2, 9_007_199_254_740_993), (2, 1, 0)],
        source='tab\t newline\n backslash\\ \\N "quoted", 한국어',
        ip="",
    )
    append(lake, loading, trial, [odd])
    load_all(lake, loading, [trial])
    ((row, line, price),) = query(
        "SELECT (amount_krw, source, ip, card_fingerprint IS NULL, event_ts = '2026-03-01 00:00:00.001+00', event_date)"
        f"::text, jsonb_array_length(lines), lines -> 0 ->> 'unit_price_krw' FROM {trial.names.landing_table}"
    )
    ((source,),) = query(f"SELECT source FROM {trial.names.landing_table}")
    assert source == odd["source"]
    assert row.startswith("(9223372036854775807,")
    assert row.endswith(',"",t,t,2026-03-01)')
    assert (line, price) == (2, "9007199254740993")


def test_compaction_between_loads_brings_no_row_twice(
    lake: Any, loading: Settings, trial: Contract, query: Any
) -> None:
    uri = loading.object_store.lake_uri(trial.names.silver)
    append(lake, loading, trial, [order(n) for n in range(5)])
    load_all(lake, loading, [trial])
    for start in (5, 10):
        append(lake, loading, trial, [order(n) for n in range(start, start + 5)])
    lake.sql(f"OPTIMIZE delta.`{uri}`")
    (compacted,) = load_all(lake, loading, [trial])
    assert (compacted.rows, compacted.rows_known) == (10, 0)

    # A version that is only a compaction adds no rows, and is not read again.
    append(lake, loading, trial, [order(15)])
    load_all(lake, loading, [trial])
    lake.sql(f"OPTIMIZE delta.`{uri}`")
    assert [result.rows for result in load_all(lake, loading, [trial])] == [0]
    assert load_all(lake, loading, [trial]) == []
    assert sequence(query, trial) == list(range(16))


def test_after_a_cleanup_of_the_log_the_whole_table_is_read(
    lake: Any, loading: Settings, trial: Contract, query: Any
) -> None:
    uri = loading.object_store.lake_uri(trial.names.silver)
    append(lake, loading, trial, [order(0)])
    load_all(lake, loading, [trial])
    append(lake, loading, trial, [order(1)])
    append(lake, loading, trial, [order(2)])
    # What a cleanup leaves: a checkpoint of the newest version, and no commit before it.
    java = lake._jvm.org.apache.spark.sql.delta.DeltaLog.forTable(lake._jsparkSession, uri)
    java.checkpoint()
    remove(lake, f"{uri}/_delta_log/{1:020d}.json")
    (result,) = load_all(lake, loading, [trial])
    assert (result.step.mode, result.rows, result.rows_known) == ("snapshot", 2, 1)
    assert sequence(query, trial) == [0, 1, 2]


def test_a_backlog_of_many_commits_is_loaded_in_steps(
    lake: Any, loading: Settings, trial: Contract, query: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(lake, loading, trial, [order(0)])
    load_all(lake, loading, [trial])
    for number in range(1, 4):
        append(lake, loading, trial, [order(number)])
    monkeypatch.setattr(load_warehouse, "MAX_COMMITS_PER_STEP", 2)
    results = load_all(lake, loading, [trial])
    assert [(result.step.from_version, result.step.delta_version) for result in results] == [(0, 2), (2, 3)]
    assert sequence(query, trial) == list(range(4))


def test_a_record_that_silver_holds_twice_lands_once_and_is_counted(
    lake: Any, loading: Settings, trial: Contract, query: Any
) -> None:
    append(lake, loading, trial, [order(0), order(1)])
    load_all(lake, loading, [trial])
    append(lake, loading, trial, [order(1, kafka_offset=77), order(2)])
    (result,) = load_all(lake, loading, [trial])
    assert (result.rows, result.rows_known) == (1, 1)
    assert sequence(query, trial) == [0, 1, 2]


def test_a_recreated_table_is_loaded_without_duplicating_known_rows(
    lake: Any, loading: Settings, trial: Contract, query: Any
) -> None:
    append(lake, loading, trial, [order(n) for n in range(3)])
    load_all(lake, loading, [trial])
    remove(lake, loading.object_store.lake_uri(trial.names.silver))
    append(lake, loading, trial, [order(n) for n in range(5)])
    (result,) = load_all(lake, loading, [trial])
    assert (result.rows, result.rows_known) == (2, 3)
    assert sequence(query, trial) == list(range(5))


def test_rows_removed_from_silver_stop_the_load_and_a_rebuild_follows_them(
    lake: Any, loading: Settings, trial: Contract, query: Any
) -> None:
    uri = loading.object_store.lake_uri(trial.names.silver)
    append(lake, loading, trial, [order(n) for n in range(4)])
    load_all(lake, loading, [trial])
    lake.sql(f"DELETE FROM delta.`{uri}` WHERE seq = 2")
    with pytest.raises(ServiceError, match=r"version 1 removed rows.*--rebuild"):
        load_all(lake, loading, [trial])
    assert sequence(query, trial) == [0, 1, 2, 3]

    (result,) = load_all(lake, loading, [trial], rebuild=True)
    assert result.step.mode == "rebuild"
    assert sequence(query, trial) == [0, 1, 3]
    assert load_all(lake, loading, [trial]) == []


@contextmanager
def load_in_own_process(environment: str, entity: str, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    script = Path(warehouse_trial.__file__)
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(script), environment, entity], stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert process.poll() is None, f"the load ended by itself:\n{output.read_text()[-2000:]}"
        assert time.monotonic() < deadline, f"not seen within {WAIT_S} s:\n{output.read_text()[-2000:]}"
        time.sleep(0.05)


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["copying", "committing"])
def test_a_killed_load_leaves_nothing_and_its_rerun_loads_everything_once(
    lake: Any, loading: Settings, trial: Contract, trial_settings: SettingsOf, query: Any, tmp_path: Path, moment: str
) -> None:
    append(lake, loading, trial, [order(n) for n in range(3_000)])
    output = tmp_path / "load.log"
    table = sql.Identifier("raw_crm", trial.entity)
    left = "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'loading'"
    # The load can't commit while its landing table is locked, so it is killed before that for certain.
    with connect(trial_settings("admin").postgres, "blocker") as blocker:
        blocker.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(table))
        with load_in_own_process(loading.environment, trial.entity, output) as process:
            if moment == "copying":
                wait_until(lambda: query(left), process, output)
            else:
                waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
                wait_until(lambda: query(waiting, trial.names.landing_table), process, output)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert query(left), "the killed load should have left its loading table behind"
    assert sequence(query, trial) == []
    assert query("SELECT 1 FROM platform.loads WHERE entity = %s", trial.entity) == []

    (result,) = load_all(lake, loading, [trial])
    assert (result.rows, result.rows_known) == (3_000, 0)
    assert sequence(query, trial) == list(range(3_000))
    assert query(left) == []


def test_two_loads_at_once_bring_every_row_once(lake: Any, loading: Settings, trial: Contract, query: Any) -> None:
    append(lake, loading, trial, [order(n) for n in range(500)])

    def load() -> int | ServiceError:
        try:
            return sum(result.rows for result in load_all(lake, loading, [trial]))
        except ServiceError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        results = [future.result() for future in (pool.submit(load), pool.submit(load))]
    assert [result for result in results if result] == [500] or any(
        isinstance(result, ServiceError) and "being loaded by another load" in str(result) for result in results
    )
    assert sequence(query, trial) == list(range(500))


def test_an_entity_that_is_being_loaded_is_refused_to_a_second_load_and_free_after_the_first(
    loading: Settings, trial: Contract
) -> None:
    second = connect(loading.postgres, "second", autocommit=True)
    with connect(loading.postgres, "first", autocommit=True) as first:
        loads.lock_entity(first, trial.entity)
        with pytest.raises(ServiceError, match=f"{trial.entity} is being loaded by another load .*backend") as refused:
            loads.lock_entity(second, trial.entity, wait_s=0.6)
        assert f"backend {first.info.backend_pid}" in str(refused.value)
    loads.lock_entity(second, trial.entity)
    second.close()


def test_rows_of_a_task_attempt_that_does_not_count_are_not_loaded(
    lake: Any, loading: Settings, trial: Contract, query: Any
) -> None:
    from data_platform_core.batch.copy_format import copy_lines
    from data_platform_core.warehouse.columns import silver_columns

    append(lake, loading, trial, [order(n) for n in range(4)])
    rows = lake.read.format("delta").load(loading.object_store.lake_uri(trial.names.silver))
    lines = [row[0] for row in copy_lines(rows, silver_columns(trial)).collect()]
    with connect(loading.postgres, "test", autocommit=True) as connection:
        table = loads.create_loading_table(connection, trial)
        loads.copy_lines(loading.postgres, table, 11, [lines[:2]])  # committed, but its task was then lost
        loads.copy_lines(loading.postgres, table, 12, [lines])
        step = loads.Step(trial.entity, "run", "snapshot", "table", -1, 1, warehouse_trial.START)
        result = loads.commit_load(connection, trial, step, table, {12: 4})
    assert (result.rows, result.rows_known) == (4, 0)
    assert sequence(query, trial) == [0, 1, 2, 3]


def test_rows_that_did_not_all_arrive_are_not_committed(loading: Settings, trial: Contract, query: Any) -> None:
    with connect(loading.postgres, "test", autocommit=True) as connection:
        table = loads.create_loading_table(connection, trial)
        step = loads.Step(trial.entity, "run", "snapshot", "table", -1, 1, warehouse_trial.START)
        with pytest.raises(ServiceError, match="5 rows were copied"):
            loads.commit_load(connection, trial, step, table, {12: 5})
    assert query("SELECT 1 FROM platform.loads WHERE entity = %s", trial.entity) == []


def test_the_same_step_can_not_be_recorded_twice(loading: Settings, trial: Contract) -> None:
    step = loads.Step(trial.entity, "run", "incremental", "table", 3, 4, warehouse_trial.START)
    with connect(loading.postgres, "test", autocommit=True) as connection:
        loads.commit_load(connection, trial, step, loads.create_loading_table(connection, trial), {})
        with pytest.raises(psycopg.errors.UniqueViolation):
            loads.commit_load(connection, trial, step, loads.create_loading_table(connection, trial), {})


def test_a_missing_silver_table_is_reported_in_one_line(lake: Any, loading: Settings, trial: Contract) -> None:
    with pytest.raises(ServiceError, match=f"{trial.names.silver} does not exist") as refused:
        load_all(lake, loading, [trial])
    assert "\n" not in str(refused.value)


def test_a_wrong_password_is_reported_before_spark_starts(stack: Topology, trial_settings: SettingsOf) -> None:
    wrong = in_trial_database(trial_settings("batch"), password=SecretStr("do-not-print-me"))
    with pytest.raises(ServiceError, match=r"CRM_POSTGRES__PASSWORD") as refused:
        load_warehouse.run(wrong, ["orders"])
    assert "do-not-print-me" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"secret_key": SecretStr("do-not-print-me")}, "refuses our credentials .*CRM_OBJECT_STORE__SECRET_KEY"),
        ({"lake_bucket": "no-such-bucket"}, "no-such-bucket: "),
        ({"url": "http://127.0.0.1:1"}, "does not answer"),
    ],
)
def test_a_lake_that_can_not_be_read_is_reported_before_spark_starts(
    trial_settings: SettingsOf, change: dict[str, Any], complaint: str
) -> None:
    settings = trial_settings("batch")
    wrong = settings.model_copy(update={"object_store": settings.object_store.model_copy(update=change)})
    with pytest.raises(ServiceError, match=complaint) as refused:
        load_warehouse.run(wrong, ["orders"])
    assert "do-not-print-me" not in str(refused.value)
    assert "\n" not in str(refused.value)
