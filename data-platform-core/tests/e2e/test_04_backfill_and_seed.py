"""History and fixtures reach the marts: a killed backfill whole, a repeated seed once."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from pipeline import SCRIPTS, Pipeline

from data_platform_core.accounting.liveness import topic_marks
from data_platform_core.contracts import Contract
from data_platform_core.warehouse.connections import connect

pytestmark = pytest.mark.e2e

BACKFILL = ("--from", "2026-03-01", "--to", "2026-03-31", "--scale", "0.05")  # some 8,000 records
SEED = ("--profiles", "60", "--products", "30", "--orders", "400", "--reviews", "200")
#: What a second seed must leave as it is: rows, and what they say.
COUNTED = {
    "orders": "select count(*), sum(amount_krw) from marts.fct_orders where order_id like 'seed-%'",
    "order states": "select count(*) from marts.fct_order_changes where order_id like 'seed-%' and not is_replaced",
    "reviews": "select count(*), sum(rating) from marts.fct_reviews",
    "products": "select count(*) from marts.dim_products where product_id > 900000000",
    "profiles": "select count(*) from marts.dim_profiles where profile_id > 900000000",
    "sales": "select sum(placed_orders), sum(placed_krw), sum(paid_krw) from marts.mart_daily_sales",
}


def generator(pipeline: Pipeline, *arguments: str) -> list[str]:
    return [str(SCRIPTS / "crm-generator"), *arguments, "--env", pipeline.environment, "--metrics-port", "0", "-q"]


def records(pipeline: Pipeline, contracts: dict[str, Contract]) -> int:
    marks = topic_marks(pipeline.settings("accounting"), contracts)
    return sum(end for partitions in marks.values() for _, end in partitions.values())


def kill_under_way(pipeline: Pipeline, contracts: dict[str, Contract], command: list[str], sent: int) -> None:
    """SIGKILL once the topics have gained `sent` records."""
    before = records(pipeline, contracts)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while records(pipeline, contracts) < before + sent:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def carry(pipeline: Pipeline) -> None:
    pipeline.drain()
    pipeline.load_and_build()


def counted(pipeline: Pipeline) -> dict[str, tuple[object, ...]]:
    with connect(pipeline.settings("dbt").postgres, "crm-test") as connection:
        return {what: connection.execute(query).fetchone() or () for what, query in COUNTED.items()}


def test_a_backfill_killed_and_resumed_and_a_seed_are_accounted_for_and_a_second_seed_replaces_the_first(
    pipeline: Pipeline, contracts: dict[str, Contract], tmp_path: Path
) -> None:
    backfill, seed = "e2e-backfill", "e2e-seed"
    kill_under_way(pipeline, contracts, generator(pipeline, "backfill", "--run-id", backfill, *BACKFILL), 3_000)
    run(generator(pipeline, "backfill", "--run-id", backfill, "--resume"))
    run(generator(pipeline, "seed", "--run-id", seed, *SEED))
    carry(pipeline)
    for run_id in (backfill, seed):
        report = pipeline.reconcile(run_id, tmp_path / f"{run_id}.json")
        assert report["code"] == 0, report["printed"]
        assert report["unfinished_producers"] == []
        assert all(counts["late"] == 0 for counts in report["counts"])

    before = counted(pipeline)
    assert before["orders"][0] == 400
    assert before["reviews"][0] == 200
    run(generator(pipeline, "seed", "--run-id", f"{seed}-again", *SEED))
    carry(pipeline)
    assert counted(pipeline) == before
    report = pipeline.reconcile(f"{seed}-again", tmp_path / "again.json")
    assert report["code"] == 0, report["printed"]
    with connect(pipeline.settings("dbt").postgres, "crm-test") as connection:
        query = "select distinct run_id from marts.fct_orders where order_id like 'seed-%%'"
        assert connection.execute(query).fetchall() == [(f"{seed}-again",)]

    run(generator(pipeline, "seed", "--append", "--run-id", f"{seed}-more", *SEED))
    carry(pipeline)
    assert counted(pipeline)["orders"][0] == 800
    assert counted(pipeline)["reviews"][0] == 400
