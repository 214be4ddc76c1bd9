"""A normal run from generator to marts, accounted for and recounted by independent readers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from deltalake import DeltaTable, QueryBuilder
from pipeline import Pipeline

from data_platform_core.contracts import Contract
from data_platform_core.lake.store import delta_options
from data_platform_core.settings import Settings
from data_platform_core.warehouse.connections import connect

pytestmark = pytest.mark.e2e

RUN = "e2e-normal"


@pytest.fixture(scope="module")
def report(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    pipeline.generate(RUN, seconds=20, rate=60)
    pipeline.drain()
    pipeline.load_and_build()
    return pipeline.reconcile(RUN, tmp_path_factory.mktemp("reports") / "normal.json")


def test_every_equation_holds_and_the_exit_code_says_so(report: dict[str, object]) -> None:
    assert report["code"] == 0, report["printed"]
    assert "PASS" in str(report["printed"])


def topic_count(settings: Settings, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": "recount"})
    try:
        metadata = consumer.list_topics(topic, timeout=10).topics[topic]
        marks = [consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10) for n in metadata.partitions]
        return sum(high - low for low, high in marks)
    finally:
        consumer.close()


def delta_count(settings: Settings, folder: str) -> int:
    """By delta-rs's own query engine, which the accounts do not use."""
    store = settings.object_store
    table = DeltaTable(f"s3://{store.lake_bucket}/{folder}", storage_options=delta_options(store))
    counted = QueryBuilder().register("counted", table).execute("SELECT count(*) AS records FROM counted").read_all()
    return int(counted["records"][0].as_py())


@pytest.mark.usefixtures("report")
def test_a_plain_kafka_client_counts_what_delta_rs_counts_in_bronze(
    pipeline: Pipeline, contracts: dict[str, Contract]
) -> None:
    settings = pipeline.settings("accounting")
    for contract in contracts.values():
        counted = topic_count(settings, contract.names.topic)
        assert counted > 0, contract.entity
        assert delta_count(settings, contract.names.bronze) == counted, contract.entity


@pytest.mark.usefixtures("report")
def test_psql_counts_in_the_marts_what_delta_rs_counts_in_silver(pipeline: Pipeline) -> None:
    settings = pipeline.settings("accounting")
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
            (won, RUN),
        )


@pytest.mark.usefixtures("report")
def test_a_mart_that_is_off_by_one_won_fails_the_run(pipeline: Pipeline, tmp_path: Path) -> None:
    """The checker can fail: A5 sees a single KRW."""
    add_to_one_order(pipeline.settings("dbt"), 1)
    try:
        broken = pipeline.reconcile(RUN, tmp_path / "off_by_one.json")
    finally:
        add_to_one_order(pipeline.settings("dbt"), -1)
    assert broken["code"] == 1
    assert "A5" in str(broken["printed"])
    assert "FAIL" in str(broken["printed"])
