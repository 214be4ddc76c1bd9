"""Every run of the story, from generator to marts, reconciled and recounted by independent readers.

The normal run was loaded twice, with a compaction between; under the killed run the driver died twice by SIGKILL; the
backfill and the import of landed files were killed, too.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import story
from confluent_kafka import Consumer, TopicPartition
from deltalake import DeltaTable, QueryBuilder
from pipeline import Pipeline

from data_platform_core.contracts import Contract
from data_platform_core.lake.store import delta_options
from data_platform_core.naming import landing_prefix
from data_platform_core.settings import Settings
from data_platform_core.warehouse.connections import connect

pytestmark = story.MARKS


@pytest.mark.parametrize("run_id", story.RUNS)
def test_every_equation_holds_after_every_kill(loaded: Pipeline, tmp_path: Path, run_id: str) -> None:
    report = loaded.reconcile(run_id, tmp_path / "report.json")
    assert report["code"] == 0, report["printed"]
    assert report["unfinished_producers"] == []
    if run_id in story.HISTORIES:
        assert all(counts["late"] == 0 for counts in report["counts"])


def test_the_command_reports_it_by_its_exit_code(loaded: Pipeline, tmp_path: Path) -> None:
    report = loaded.reconcile_by_command(story.AFTER_IMPORT, tmp_path / "report.json")
    assert report["code"] == 0, report["printed"]
    assert "PASS" in report["printed"]


def test_the_command_reports_that_all_is_drained(loaded: Pipeline) -> None:
    done = loaded.crm("stream", "drain", "--timeout", "60")
    assert done.code == 0, done.err
    assert "drained in" in done.out


def test_an_import_beside_a_driver_is_refused(imports: story.Imports) -> None:
    assert imports.beside_driver.code == 3
    assert "is being written by crm stream run, process " in imports.beside_driver.err


def test_an_import_of_a_run_without_files_is_refused(imports: story.Imports) -> None:
    assert imports.unknown.code == 2
    assert f"run 'nobodys' has no {landing_prefix('nobodys')}/manifest.json" in imports.unknown.err


def test_an_import_after_a_killed_one_brings_every_entity(imports: story.Imports) -> None:
    assert imports.whole.code == 0, imports.whole.err
    assert len([line for line in imports.whole.out.splitlines() if line.endswith(" rows in bronze")]) == 4


def topic_count(settings: Settings, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": "recount"})
    try:
        metadata = consumer.list_topics(topic, timeout=10).topics[topic]
        marks = [consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10) for n in metadata.partitions]
        return sum(high - low for low, high in marks)
    finally:
        consumer.close()


#: Rows of files that landed have partitions below 0.
FROM_TOPIC = "partition >= 0"


def delta_count(settings: Settings, folder: str, where: str = "true") -> int:
    """By delta-rs's own query engine, which reconciliation does not use."""
    store = settings.object_store
    table = DeltaTable(f"s3://{store.lake_bucket}/{folder}", storage_options=delta_options(store))
    query = f"SELECT count(*) AS records FROM counted WHERE {where}"
    counted = QueryBuilder().register("counted", table).execute(query).read_all()
    return int(counted["records"][0].as_py())


def test_a_plain_kafka_client_counts_what_delta_rs_counts_in_bronze(
    loaded: Pipeline, contracts: dict[str, Contract]
) -> None:
    settings = loaded.settings("accounting")
    for contract in contracts.values():
        counted = topic_count(settings, contract.names.topic)
        assert counted > 0, contract.entity
        assert delta_count(settings, contract.names.bronze, FROM_TOPIC) == counted, contract.entity
        landed = delta_count(settings, contract.names.bronze) - counted
        assert landed > 0, contract.entity


def test_psql_counts_in_the_marts_what_delta_rs_counts_in_silver(loaded: Pipeline) -> None:
    settings = loaded.settings("accounting")
    postgres = settings.postgres
    psql = shutil.which("psql")
    assert psql, "psql is part of the setup"
    done = subprocess.run(
        [psql, "-h", postgres.host, "-p", str(postgres.port), "-U", postgres.user, "-d", postgres.database, "-At",
         "-c", "select count(*) from marts.fct_events"],
        env={"PGPASSWORD": postgres.password.get_secret_value()}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) == delta_count(settings, "silver/events") > 0


def add_to_one_order(settings: Settings, won: int) -> None:
    with connect(settings.postgres, "crm-test") as connection:
        connection.execute(
            "update marts.fct_order_changes set amount_krw = amount_krw + %s "
            "where event_id = (select min(event_id) from marts.fct_order_changes where run_id = %s)",
            (won, story.AFTER_IMPORT),
        )


def test_a_mart_that_is_off_by_one_won_fails_the_run(loaded: Pipeline, tmp_path: Path) -> None:
    """The check can fail: A5 detects a difference of one KRW."""
    add_to_one_order(loaded.settings("dbt"), 1)
    try:
        broken = loaded.reconcile_by_command(story.AFTER_IMPORT, tmp_path / "off_by_one.json")
    finally:
        add_to_one_order(loaded.settings("dbt"), -1)
    assert broken["code"] == 1
    assert "A5" in str(broken["printed"])
    assert "FAIL" in str(broken["printed"])
