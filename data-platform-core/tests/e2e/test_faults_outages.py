"""Services away for OUTAGE_S seconds (default 40): everything resumes automatically, every record is accounted for.

Each case is one row of `outages.jsonl` in the environment's data folder: what was unavailable, what happened, how long
it took. `OUTAGE_S=600 make test-faults PYTEST="-k outage"` produces the rows of ADR 0018.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil
import psycopg
import pytest
from outages import BACK_WITHIN_S, deaths, driver, wait_for, wait_until_ready
from pipeline import Pipeline

from data_platform_core.access.names import MONITORING
from data_platform_core.jobs import BATCH, job
from data_platform_core.naming import LOADING_SCHEMA
from data_platform_core.topology import Topology, load_topology
from embedded_stack import api
from embedded_stack.credentials import read_account
from embedded_stack.layout import Layout
from embedded_stack.supervision import Supervisor

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

OUTAGE_S = float(os.environ.get("OUTAGE_S", "40"))
BROKERS = ("kafka-1", "kafka-2", "kafka-3")
RATE = 40.0
#: What the driver reports while it runs in the outage, and once it has been killed in the middle of it.
AWAY = [
    pytest.param("object store", ("minio",), id="object-store"),
    pytest.param("Kafka", BROKERS, id="kafka"),
    pytest.param("registry", ("registry", "postgres"), id="registry-and-postgresql"),
]
#: Runs whose records are accounted for at the end.
RUNS: list[str] = []


def each(services: tuple[str, ...], action: Callable[[str, str], None], environment: str) -> None:
    with ThreadPoolExecutor(len(services)) as pool:
        list(pool.map(lambda service: action(environment, service), services))


def write_row(environment: str, row: dict[str, Any]) -> None:
    with (load_topology(environment).data_path / "outages.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


class Running:
    """A command of `crm` in the background. It writes to a file: a pipe that is not read would block it."""

    def __init__(self, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        self._process, self._output = process, output

    def running(self) -> bool:
        return self._process.poll() is None

    def finish(self) -> str:
        """Its output, once it has succeeded."""
        code = self._process.wait(BACK_WITHIN_S)
        self._output.seek(0)
        said = self._output.read().decode(errors="replace")
        assert code == 0, said[-2000:]
        return said


@contextmanager
def in_background(name: str, environment: str) -> Iterator[Running]:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(job(name).argv(environment), stdout=output, stderr=subprocess.STDOUT)
        try:
            yield Running(process, output)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


@contextmanager
def load_caught(environment: str) -> Iterator[Callable[[], str]]:
    """A load that holds its entity; yields what waits for its end and returns its output."""
    with in_background("load-warehouse", environment) as load:
        wait_for("the load holds its entity", lambda: tasks(environment, "load-warehouse"), BACK_WITHIN_S)
        yield load.finish


@pytest.mark.parametrize(("waited_for", "services"), AWAY)
def test_an_outage_needs_no_action(pipeline: Pipeline, waited_for: str, services: tuple[str, ...]) -> None:
    environment = pipeline.environment
    name = services[0]
    wait_until_ready(environment)
    pipeline.generate(f"outage-{name}-before", seconds=8, rate=RATE)
    with ExitStack() as stack:
        load = None
        if "postgres" in services:
            pipeline.drain()
            load = stack.enter_context(load_caught(environment))
        row = outage(pipeline, waited_for, services)
        if load:
            row["load"] = f"succeeded, waited {load().count('waiting')} times"
    pipeline.generate(f"outage-{name}-after", seconds=8, rate=RATE)
    pipeline.drain()
    write_row(environment, row)
    RUNS.extend(f"outage-{name}-{part}" for part in ("before", "during", "after"))


def outage(pipeline: Pipeline, waited_for: str, services: tuple[str, ...]) -> dict[str, Any]:
    """Services away for OUTAGE_S, the driver killed after a third of it; returns once lag is back."""
    environment = pipeline.environment
    died_before = deaths(environment)
    # Traffic during the outage: a producer that gives up must leave a ledger of every record that it sent.
    caught = subprocess.Popen(
        pipeline.generator(f"outage-{services[0]}-during", OUTAGE_S, RATE),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    time.sleep(5)
    began = time.monotonic()
    each(services, api.stop, environment)
    time.sleep(max(0.0, OUTAGE_S / 3 - (time.monotonic() - began)))
    running = driver(environment).problem
    died_by_itself = deaths(environment) - died_before
    if driver(environment).pid:
        pipeline.kill_streaming()
    # A driver that starts during the outage reports what it waits for.
    waits = f"waits for {waited_for}"
    wait_for(f"the driver {waits}", lambda: driver(environment).problem == waits, 120)
    time.sleep(max(0.0, OUTAGE_S - (time.monotonic() - began)))
    assert driver(environment).state in ("STARTING", "RUNNING", "BACKOFF")
    starts = deaths(environment) - died_before
    each(services, api.start, environment)
    away_s, back = time.monotonic() - began, time.monotonic()
    ready_s = wait_until_ready(environment)
    pipeline.drain()
    lag_s = time.monotonic() - back
    said, _ = caught.communicate(timeout=200)
    return {
        "away": ", ".join(services),
        "seconds": round(away_s),
        "driver_running": running or "healthy",
        "driver_ended_by_itself": died_by_itself,
        "driver_starts": starts,
        "ready_after_s": round(ready_s),
        "lag_back_after_s": round(lag_s),
        "producer": (said.strip().splitlines() or ["clean"])[-1] if caught.returncode else "clean",
    }


def test_services_away_one_after_another(pipeline: Pipeline) -> None:
    """Kafka and PostgreSQL go first, then the object store, then the registry, each for OUTAGE_S.

    A load is in progress, and the driver is killed after a third of the first outage.
    """
    environment, began = pipeline.environment, 0.0
    wait_until_ready(environment)
    pipeline.generate("outage-all-before", seconds=8, rate=RATE)
    pipeline.drain()
    caught = subprocess.Popen(
        pipeline.generator("outage-all-during", 60, RATE), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said: list[tuple[int, str]] = []

    def watch_until(second: float) -> None:
        while (now := time.monotonic() - began) < second:
            problem = driver(environment).problem or "healthy"
            if not said or said[-1][1] != problem:
                said.append((round(now), problem))
            time.sleep(2)

    with load_caught(environment) as finish:
        began = time.monotonic()
        each((*BROKERS, "postgres"), api.stop, environment)
        watch_until(OUTAGE_S / 3)
        if driver(environment).pid:
            pipeline.kill_streaming()
        watch_until(OUTAGE_S * 0.4)
        api.stop(environment, "minio")
        watch_until(OUTAGE_S * 0.6)
        api.stop(environment, "registry")
        watch_until(OUTAGE_S)
        each((*BROKERS, "postgres"), api.start, environment)
        watch_until(OUTAGE_S * 1.4)
        api.start(environment, "minio")
        watch_until(OUTAGE_S * 1.6)
        api.start(environment, "registry")
        back = time.monotonic()
        ready_s = wait_until_ready(environment)
        pipeline.drain()
        lag_s = time.monotonic() - back
        loaded = finish()
    out, _ = caught.communicate(timeout=200)
    pipeline.generate("outage-all-after", seconds=8, rate=RATE)
    pipeline.drain()
    write_row(
        environment,
        {
            "away": "Kafka and PostgreSQL, then the object store, then the registry",
            "seconds_each": OUTAGE_S,
            "driver_said": said,
            "ready_after_s": round(ready_s),
            "lag_back_after_s": round(lag_s),
            "load": f"succeeded, waited {loaded.count('waiting')} times",
            "producer": (out.strip().splitlines() or ["clean"])[-1] if caught.returncode else "clean",
        },
    )
    RUNS.extend(f"outage-all-{part}" for part in ("before", "during", "after"))


def test_every_record_of_every_outage_is_accounted_for(pipeline: Pipeline, tmp_path: Path) -> None:
    if not RUNS:
        pytest.skip("no outage was made")
    pipeline.load_and_build()
    for run in RUNS:
        # A producer that was cut off has records with an unknown outcome. No other record is lost.
        verdict = pipeline.reconcile(run, tmp_path / f"{run}.json")
        write_row(pipeline.environment, {"run": run, "reconcile": verdict["code"]})
        assert verdict["code"] == 0, verdict["printed"]
    assert leftovers(pipeline.environment) == []


def freeze(environment: str, frozen: bool) -> None:
    """SIGSTOP or SIGCONT to every process of PostgreSQL: connections stay, no answer comes."""
    postmaster = psutil.Process(Supervisor(Layout(load_topology(environment))).processes()["postgres"].pid)
    for process in [postmaster, *postmaster.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # one that resumes may find its client gone, and exit
            process.suspend() if frozen else process.resume()


@pytest.mark.parametrize("how", ["stopped", "frozen"])
@pytest.mark.parametrize("name", BATCH)
def test_an_outage_of_postgresql_is_waited_for_by_the_job_that_it_catches(
    pipeline: Pipeline, tmp_path: Path, name: str, how: str
) -> None:
    environment, run = pipeline.environment, f"outage-postgres-{how}-{name}"
    wait_until_ready(environment)
    pipeline.generate(run, seconds=8, rate=RATE)
    pipeline.drain()
    if name == "build-marts":
        assert pipeline.crm("load").code == 0
    with in_background(name, environment) as running:
        wait_for(f"{name} works in PostgreSQL", lambda: tasks(environment, name), BACK_WITHIN_S)
        began = time.monotonic()
        if how == "frozen":
            freeze(environment, True)
        else:
            api.stop(environment, "postgres")
        time.sleep(OUTAGE_S)
        assert running.running(), "the job has given up"
        if how == "frozen":
            freeze(environment, False)
        else:
            api.start(environment, "postgres")
        away_s, back = time.monotonic() - began, time.monotonic()
        out = running.finish()
    finished_s = time.monotonic() - back
    pipeline.load_and_build()
    verdict = pipeline.reconcile(run, tmp_path / "report.json")
    write_row(
        environment,
        {
            "away": f"PostgreSQL, {how}, during {name}",
            "seconds": round(away_s),
            "waited": out.count("waiting"),
            "job_done_after_s": round(finished_s),
            "reconcile": verdict["code"],
        },
    )
    assert verdict["code"] == 0, verdict["printed"]
    assert leftovers(environment) == []


def watcher(environment: str) -> psycopg.Connection:
    """A connection of the monitoring account: it can read every session."""
    topology = load_topology(environment)
    user, password = read_account(Layout(topology).secrets, MONITORING).postgres_login
    place = topology.postgres
    return psycopg.connect(
        host=place.host, port=place.port, dbname=place.database, user=user, password=password, autocommit=True
    )


def tasks(environment: str, name: str) -> int:
    """Sessions in which the job does its work: a load's that holds its entity, dbt's models."""
    queries = {
        "load-warehouse": "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted",
        "build-marts": "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dbt'",
    }
    with watcher(environment) as connection:
        row = connection.execute(queries[name]).fetchone()
    return int(row[0]) if row else 0


def leftovers(environment: str) -> list[Any]:
    """Loading tables, locks and open transactions that a job left behind."""
    with watcher(environment) as connection:
        return connection.execute(
            """
            SELECT 'table', tablename FROM pg_tables WHERE schemaname = %s
            UNION ALL SELECT 'lock', pid::text FROM pg_locks WHERE locktype = 'advisory'
            UNION ALL SELECT state, pid::text FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'
            """,
            (LOADING_SCHEMA,),
        ).fetchall()


def test_an_outage_that_a_batch_job_starts_into_is_one_line(pipeline: Pipeline, stack: Topology) -> None:
    api.stop(pipeline.environment, "postgres")
    try:
        for name in BATCH:
            ended = pipeline.run_job(name)
            assert ended.code == 3
            assert ended.err.strip().splitlines()[-1].startswith(f"error: PostgreSQL {stack.postgres.address} does not")
            assert "Traceback" not in ended.err
    finally:
        api.start(pipeline.environment, "postgres")
    pipeline.load_and_build()
