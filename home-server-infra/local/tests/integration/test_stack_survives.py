"""The real stack: killed services restart with their data, accounts are separate, and `up` can be repeated."""

from __future__ import annotations

import io
import ipaddress
import socket
import time

import httpx
import psutil
import psycopg
import pytest
from minio import Minio
from minio.error import S3Error

from data_platform_core.errors import ServiceError
from data_platform_core.settings import load_settings
from data_platform_core.topology import Topology, load_topology
from embedded_stack import api, preflight
from embedded_stack.layout import Layout
from embedded_stack.services import services
from embedded_stack.supervision import strays

pytestmark = pytest.mark.integration

ENVIRONMENT = "test"
#: Measured: 2-12 s on a busy machine of 2 cores.
BACK_WITHIN_SECONDS = 90


def healthy_pids() -> dict[str, int]:
    return {row.name: row.pid for row in api.status(ENVIRONMENT) if row.pid and row.problem is None}


def wait_back(service: str, old_pid: int) -> None:
    deadline = time.monotonic() + BACK_WITHIN_SECONDS
    while (pid := healthy_pids().get(service)) is None or pid == old_pid:
        assert time.monotonic() < deadline, f"{service} did not come back"
        time.sleep(0.5)


@pytest.mark.parametrize("service", ["kafka-2", "minio", "postgres"])
def test_a_service_killed_with_9_is_started_again(running_stack: Topology, service: str) -> None:
    wait_back(service, old_pid=api.kill(ENVIRONMENT, service))


def test_a_schema_that_was_acknowledged_survives_kill_9_of_the_registry(running_stack: Topology) -> None:
    url = f"{running_stack.schema_registry.url}/subjects/survives-value/versions"
    schema = '{"type":"record","name":"Survives","fields":[{"name":"at","type":"long"}]}'
    httpx.post(url, json={"schema": schema}, timeout=10).raise_for_status()
    wait_back("registry", old_pid=api.kill(ENVIRONMENT, "registry"))
    assert httpx.get(f"{url}/latest", timeout=10).json()["schema"] == schema
    httpx.delete(url.removesuffix("/versions"), timeout=10).raise_for_status()


def test_up_on_a_running_stack_changes_nothing(running_stack: Topology) -> None:
    before = healthy_pids()
    api.up(ENVIRONMENT, platform=False)
    assert healthy_pids() == before


def test_clean_refuses_while_the_stack_is_up(running_stack: Topology) -> None:
    with pytest.raises(ServiceError, match="make down ENV=test"):
        api.clean(ENVIRONMENT)
    assert running_stack.data_path.is_dir()


def test_each_address_of_a_running_stack_is_reported_taken_with_its_holder(running_stack: Topology) -> None:
    permanent = tuple(service for service in services(Layout(running_stack)) if not service.on_demand)
    problems = preflight.taken_ports(permanent)
    assert len(problems) == sum(len(service.endpoints) for service in permanent)
    pids = healthy_pids()
    for service in permanent:
        held = f"pid {pids[service.name]} "
        assert any(f"wanted by {service.name}" in problem and held in problem for problem in problems), service.name


def test_no_process_of_the_stack_listens_beyond_loopback(running_stack: Topology) -> None:
    """Read from the kernel, regardless of the configuration: gossip, log and debug ports too."""
    listening = {
        (process.name(), connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
        for process in strays(Layout(running_stack))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or (connection.type == socket.SOCK_DGRAM and not connection.raddr)
    }
    permanent = [service for service in services(Layout(running_stack)) if not service.on_demand]
    assert {endpoint.port for service in permanent for endpoint in service.endpoints} <= {row[2] for row in listening}
    assert {found for found in listening if not ipaddress.ip_address(found[1]).is_loopback} == set()


def store_of(service: str) -> Minio:
    store = load_settings(service, ENVIRONMENT).object_store  # type: ignore[arg-type]
    return Minio(
        load_topology(ENVIRONMENT).object_store.address,
        store.access_key.get_secret_value(),
        store.secret_key.get_secret_value(),
        secure=False,
        region=store.region,
    )


def test_the_generator_can_write_the_ledger_but_not_delete_it_nor_see_the_lake(running_stack: Topology) -> None:
    buckets, client = running_stack.object_store.buckets, store_of("generator")
    client.put_object(buckets.ledger, "runs/stack-test/probe", io.BytesIO(b"x"), 1)
    for forbidden in (
        lambda: client.remove_object(buckets.ledger, "runs/stack-test/probe"),
        lambda: list(client.list_objects(buckets.lake)),
    ):
        with pytest.raises(S3Error, match="AccessDenied"):
            forbidden()


def test_batch_and_accounting_read_the_lake_and_can_not_write_it(running_stack: Topology) -> None:
    lake, writer = running_stack.object_store.buckets.lake, store_of("streaming")
    writer.put_object(lake, "readable", io.BytesIO(b"x"), 1)
    for service in ("batch", "accounting"):
        client = store_of(service)
        assert client.get_object(lake, "readable").read() == b"x", service
        with pytest.raises(S3Error, match="AccessDenied"):
            client.put_object(lake, "probe", io.BytesIO(b"x"), 1)
        with pytest.raises(S3Error, match="AccessDenied"):
            client.remove_object(lake, "readable")
    writer.remove_object(lake, "readable")


def test_postgresql_refuses_a_wrong_password(running_stack: Topology) -> None:
    postgres = running_stack.postgres
    for user in ("crm_reader", "postgres"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(
                host=postgres.host, port=postgres.port, dbname=postgres.database, user=user, password="guess"
            )


def test_no_service_of_the_platform_is_a_superuser(running_stack: Topology) -> None:
    settings = load_settings("admin", ENVIRONMENT).postgres
    with psycopg.connect(
        host=settings.host,
        port=settings.port,
        dbname=settings.database,
        user=settings.user,
        password=settings.password.get_secret_value(),
    ) as connection:
        rows = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'crm\\_%' AND (rolsuper OR rolcreaterole OR rolcreatedb)"
        ).fetchall()
    assert rows == []
