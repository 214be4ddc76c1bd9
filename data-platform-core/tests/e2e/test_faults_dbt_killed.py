"""A full refresh of the marts that is killed at any moment: the next one succeeds, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from outages import wait_for
from pipeline import Pipeline

from data_platform_core.accounting.covered import covered_marts
from data_platform_core.warehouse.connections import connect

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

RUN = "faults-dbt-killed"
MARTS = sorted(mart.name for mart in covered_marts())


def tables(pipeline: Pipeline) -> dict[str, int]:
    """Each table of the marts' schema with its object id: a full refresh makes a new one."""
    with connect(pipeline.settings("admin").postgres, "test-dbt-killed", autocommit=True) as connection:
        rows = connection.execute("SELECT relname, oid FROM pg_class WHERE relnamespace = 'marts'::regnamespace "
                                  "AND relkind = 'r'").fetchall()  # fmt: skip
    return {name: int(oid) for name, oid in rows}


def busy_with_dbt(pipeline: Pipeline) -> int:
    """Connections of dbt's account."""
    settings = pipeline.settings("dbt").postgres
    with connect(pipeline.settings("admin").postgres, "test-dbt-killed", autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = %s", (settings.user,)
        ).fetchone()
    assert row
    return int(row[0])


def kill_full_refresh(pipeline: Pipeline, after_marts: int, log: Path) -> int:
    """Kill the command and dbt itself once at least `after_marts` marts are new; how many were."""
    before = tables(pipeline)

    def renewed() -> int:
        return sum(oid != before.get(name) for name, oid in tables(pipeline).items() if name in MARTS)

    command = pipeline.job("build-marts", "--full-refresh")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            wait_for(f"{after_marts} marts of {len(MARTS)} are new", lambda: renewed() >= after_marts, 300)
            assert process.poll() is None, log.read_text()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return renewed()


@pytest.mark.parametrize("after_marts", [1, len(MARTS) // 2])
def test_a_full_refresh_that_was_killed_ends_right_the_next_time(
    pipeline: Pipeline, tmp_path: Path, after_marts: int
) -> None:
    run = f"{RUN}-{after_marts}"
    pipeline.generate(run, seconds=10, rate=40)
    pipeline.drain()
    pipeline.load_and_build()

    assert kill_full_refresh(pipeline, after_marts, tmp_path / "killed.log") < len(MARTS), "it was over already"
    wait_for("PostgreSQL ends what the killed dbt began", lambda: not busy_with_dbt(pipeline), 60)
    again = pipeline.crm("dbt", "build", "--full-refresh")
    assert again.code == 0, again.out + again.err

    report = pipeline.reconcile(run, tmp_path / "report.json")
    assert report["code"] == 0, report["printed"]
    assert set(tables(pipeline)) == set(MARTS), "a table that no model makes was left behind"
