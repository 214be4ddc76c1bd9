"""PostgreSQL with its replica, object store, Redis cluster and Prometheus, checked with their clients.

Each function is a step of `crm-lab test --chain stores`. It returns a result line, and raises a UserError on a failure.
"""

from __future__ import annotations

import io
from typing import Any

import httpx
import psycopg
import redis
from minio import Minio
from minio.error import S3Error
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from data_platform_core.access import names, postgres
from data_platform_core.access.matrix import load_matrix
from data_platform_core.errors import ServiceError
from data_platform_core.topology.hosts import Role, with_role
from infra_lab.lab import Lab
from infra_lab.private_files import read_vault

_WAIT_S = 60.0
_SLOTS = 16384


def replica_follows(lab: Lab) -> str:
    """The replica has the primary's commits and refuses writes."""
    with _postgres(lab, Role.POSTGRES_PRIMARY) as primary, _postgres(lab, Role.POSTGRES_REPLICA) as replica:
        primary.execute("drop table if exists lab_written")
        primary.execute("create table lab_written as select generate_series(1, 1000) as number")
        _retrying(psycopg.errors.UndefinedTable)(replica.execute, "select from lab_written")
        counted = replica.execute("select count(*) from lab_written").fetchone()
        if counted != (1000,):
            raise ServiceError(f"replica has {counted} of 1000 rows")
        try:
            replica.execute("insert into lab_written values (0)")
        except psycopg.errors.ReadOnlySqlTransaction:
            pass
        else:
            raise ServiceError("the replica accepted a write")
        primary.execute("drop table lab_written")
        tls = primary.execute("select version from pg_stat_ssl where pid = pg_backend_pid()").fetchone()
    return f"1000 rows followed, a write was refused, {tls[0] if tls else 'no TLS'}"


def _postgres(lab: Lab, role: Role) -> psycopg.Connection[tuple[Any, ...]]:
    (host,) = with_role(lab.topology.hosts, role).values()
    owner = names.role(postgres.owner(load_matrix()))
    return psycopg.connect(
        host=host.address,
        port=lab.topology.postgres.port,
        dbname=lab.topology.postgres.database,
        user=owner,
        password=read_vault(lab.layout)["vault_postgres_passwords"][owner],
        sslmode="verify-full",
        sslrootcert=str(lab.layout.authority),
        autocommit=True,
    )


def store_keeps_to_its_policies(lab: Lab) -> str:
    """The driver writes the lake, the generator may not."""
    (host,) = with_role(lab.topology.hosts, Role.OBJECT_STORE).values()
    passwords = read_vault(lab.layout)["vault_object_store_passwords"]
    bucket, address = lab.topology.object_store.buckets.lake, f"{host.address}:{lab.topology.object_store.port}"

    def put(service: str) -> None:
        client = Minio(address, names.access_key(service), passwords[service], secure=False)
        client.put_object(bucket, "bronze/lab-test", io.BytesIO(b"lab"), 3)
        client.remove_object(bucket, "bronze/lab-test")

    put("streaming")
    try:
        put("generator")
    except S3Error as error:
        if error.code != "AccessDenied":
            raise ServiceError(f"the generator was refused with {error.code}") from error
        return "streaming writes the lake, generator: AccessDenied"
    raise ServiceError("the generator wrote the lake")


def redis_is_one_cluster(lab: Lab) -> str:
    """All slots are served, and clients without the password are refused."""
    hosts = with_role(lab.topology.hosts, Role.REDIS)
    password = read_vault(lab.layout)["vault_redis_password"]
    for host in hosts.values():
        with _redis(lab, host.address) as stranger:
            _refused(stranger, host.address)
        with _redis(lab, host.address, password) as client:
            info = client.cluster("INFO")
        wanted = {"cluster_state": "ok", "cluster_slots_ok": str(_SLOTS), "cluster_known_nodes": str(len(hosts))}
        if lacking := [f"{name}:{value}" for name, value in wanted.items() if info.get(name) != value]:
            raise ServiceError(f"Redis at {host.address} does not say {', '.join(lacking)}")
    return f"{len(hosts)} nodes, {_SLOTS} slots, NOAUTH without a password"


def _redis(lab: Lab, address: str, password: str | None = None) -> redis.Redis:
    """A client of one node, over TLS; it connects with the first command."""
    assert lab.topology.redis is not None
    return redis.Redis(
        host=address,
        port=lab.topology.redis.port,
        password=password,
        ssl=True,
        ssl_ca_certs=str(lab.layout.authority),
        socket_timeout=_WAIT_S,
        socket_connect_timeout=_WAIT_S,
        decode_responses=True,
    )


def _refused(stranger: redis.Redis, address: str) -> None:
    """Raises ServiceError if a client without a password gets an answer."""
    try:
        stranger.ping()
    except redis.AuthenticationError:
        return
    raise ServiceError(f"Redis at {address} answers without a password")


def prometheus_sees_all(lab: Lab) -> str:
    """Every machine that is up is scraped, and the rules are loaded."""
    (host,) = with_role(lab.topology.hosts, Role.MONITORING).values()
    base = f"http://{host.address}:{lab.topology.monitoring.prometheus.port}/api/v1"
    made = {lab.topology.hosts[name].address for name in lab.topology.hosts if lab.hosts.running(lab.test_host(name))}

    def up() -> int:
        with httpx.Client(trust_env=False, timeout=_WAIT_S) as client:
            targets = client.get(f"{base}/targets").json()["data"]["activeTargets"]
            rules = client.get(f"{base}/rules").json()["data"]["groups"]
        ours = [target for target in targets if target["labels"]["instance"].rpartition(":")[0] in made]
        if down := [target["scrapeUrl"] for target in ours if target["health"] != "up"]:
            raise ServiceError(f"Prometheus does not reach {', '.join(down)}")
        if not rules or len({target["labels"]["instance"] for target in ours}) < len(made):
            raise ServiceError(f"Prometheus has {len(rules)} groups of rules and {len(ours)} targets")
        return len(ours)

    return f"{_retrying(ServiceError)(up)} targets up, rules loaded"


def _retrying(error: type[BaseException]) -> Retrying:
    return Retrying(
        stop=stop_after_delay(_WAIT_S), wait=wait_fixed(1), retry=retry_if_exception_type(error), reraise=True
    )
