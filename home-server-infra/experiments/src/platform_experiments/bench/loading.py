"""`crm-experiment bench --only loading`: what a load costs, small and large, beside COPY of the same rows from a file.

The fixed price is that of a load with few new rows: Spark's start, and four entities' plans, commits and transactions.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from psycopg import Connection, sql

from data_platform_core.jobs import job
from data_platform_core.naming import names
from data_platform_core.warehouse.connections import connect
from platform_experiments.bench.measuring import ENTITY, Bench, Measured, console

#: Records of all entities in a small load, as records/s and seconds.
_RATE, _SECONDS = 100, 30
_REPEATS = 3
_CHUNK = 2**20
_BESIDE = sql.Identifier("bench_copy")


def measure(bench: Bench) -> Sequence[Measured]:
    """Small loads, a large one, and COPY alone; leaves the driver stopped."""
    rows = []
    for number in range(_REPEATS):
        _send(bench, f"loading-{number}")
        rows.append(_loaded(bench, f"load of {_RATE * _SECONDS:,} records, {number + 1} of {_REPEATS}"))
    records = bench.load.backlog
    console.print(f"loading: {records:,} {ENTITY}")
    with bench.driver():
        bench.flood("loading-many", records)
        bench.drain()
    rows.append(_loaded(bench, f"load of {records:,} {ENTITY}", records))
    rows.append(_copied(bench))
    return rows


def _send(bench: Bench, run_id: str) -> None:
    console.print(f"loading: {_RATE * _SECONDS:,} records of all entities")
    with bench.driver():
        bench.generate(run_id, _RATE, _SECONDS)
        bench.drain()


def _loaded(bench: Bench, what: str, records: int | None = None) -> Measured:
    began = time.monotonic()
    done = bench.runtime.run(job("load-warehouse").in_environment(bench.environment))
    seconds = time.monotonic() - began
    rate = f"{records / seconds:,.0f} rows/s, " if records else ""
    return Measured(what, f"{seconds:.1f} s, {rate}{done.cpu_s:.1f} CPU s of Spark", done.cpu_s / seconds, None)


def _copied(bench: Bench) -> Measured:
    """The landing table's rows from a file into an unlogged table like it, by one COPY."""
    landing = sql.Identifier(*names(ENTITY).landing_table.split("."))
    with ExitStack() as held:
        connection = held.enter_context(connect(bench.settings("admin").postgres, "crm-bench", autocommit=True))
        file = Path(held.enter_context(tempfile.TemporaryDirectory(dir=bench.runtime.folder))) / "rows"
        dump = sql.SQL("COPY {} TO STDOUT").format(landing)
        with connection.cursor() as cursor, file.open("wb") as out, cursor.copy(dump) as copy:
            for chunk in copy:
                out.write(chunk)
        connection.execute(sql.SQL("CREATE UNLOGGED TABLE {} (LIKE {})").format(_BESIDE, landing))
        held.callback(connection.execute, sql.SQL("DROP TABLE {}").format(_BESIDE))
        count, seconds = _copy_from(connection, file)
    value = f"{seconds:.1f} s, {count / seconds:,.0f} rows/s"
    return Measured(f"COPY of {count:,} {ENTITY} from a file", value, None, None)


def _copy_from(connection: Connection, file: Path) -> tuple[int, float]:
    """Rows and seconds."""
    began = time.monotonic()
    fill = sql.SQL("COPY {} FROM STDIN").format(_BESIDE)
    with connection.cursor() as cursor:
        with file.open("rb") as source, cursor.copy(fill) as copy:
            while chunk := source.read(_CHUNK):
                copy.write(chunk)
        return cursor.rowcount, time.monotonic() - began
