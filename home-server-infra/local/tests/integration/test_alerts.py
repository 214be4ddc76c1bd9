"""Everything that serves metrics is scraped, by an account that can read nothing else."""

from __future__ import annotations

import time

import httpx
import psycopg
import pytest

from data_platform_core.access.names import MONITORING
from data_platform_core.topology import Topology
from embedded_stack.credentials import read_account
from embedded_stack.layout import Layout

pytestmark = pytest.mark.integration


def healthy_targets(topology: Topology) -> set[str]:
    url = f"http://{topology.monitoring.prometheus.address}/api/v1/targets"
    targets = httpx.get(url, trust_env=False).json()["data"]["activeTargets"]
    return {target["labels"]["instance"] for target in targets if target["health"] == "up"}


def test_every_server_is_scraped(running_stack: Topology) -> None:
    monitoring = running_stack.monitoring
    servers = (monitoring.prometheus, monitoring.alertmanager, monitoring.node_exporter, monitoring.postgres_exporter)
    brokers = (broker.metrics for broker in running_stack.kafka.brokers)
    wanted = {endpoint.address for endpoint in (*servers, *brokers, running_stack.object_store)}
    deadline = time.monotonic() + 60
    while not wanted <= (found := healthy_targets(running_stack)):
        assert time.monotonic() < deadline, wanted - found
        time.sleep(1)


def test_the_monitorings_account_sees_no_row_and_no_other_database(running_stack: Topology) -> None:
    user, password = read_account(Layout(running_stack).secrets, MONITORING).postgres_login
    postgres = running_stack.postgres

    def connect(database: str) -> psycopg.Connection:
        return psycopg.connect(
            host=postgres.host, port=postgres.port, dbname=database, user=user, password=password, connect_timeout=10
        )

    with pytest.raises(psycopg.OperationalError, match="CONNECT privilege"):
        connect("postgres")
    with connect(postgres.database) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM raw_crm.orders")
