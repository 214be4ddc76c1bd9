"""The services: command, addresses and health check of each."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from data_platform_core.access.names import STACK, STREAMING
from data_platform_core.errors import ConfigurationError
from data_platform_core.streaming.stopping import STOP_GRACE_S
from data_platform_core.topology import Broker
from embedded_stack import health, kafka_nodes, object_store, postgres_server, run_settings
from embedded_stack.kafka_nodes import kafka_name
from embedded_stack.layout import (
    LOGGING_CONFIG,
    MARKER_VARIABLE,
    MINIO_BINARY,
    MONITORING_DIR,
    POSTGRES_USER,
    Layout,
    java,
    jmx_agent,
    kafka_jars,
    needs_postgres_user,
    registry_jars,
)
from embedded_stack.monitoring.programs import monitoring_services
from embedded_stack.service import DEFAULT_PROFILES, Profile, Service
from embedded_stack.spark_cluster import cluster_services

MINIO = "minio"

#: Seconds until a stopping service is killed; all of them stop in parallel.
STOP_SECONDS = {"kafka": 20, "registry": 10, MINIO: 10, "postgres": 20, STREAMING: int(STOP_GRACE_S) + 10}

#: Resident memory of a JVM besides its heap: class data, code, threads, and Kafka's buffers.
BESIDE_HEAP_MB = {"kafka": 150, "registry": 100}
#: Limit of MinIO's garbage collector; idle it uses half.
MINIO_MEMORY_MB = 768
POSTGRES_MEMORY_MB = 256
#: The driver's JVM with its default heap, and its Python with the keys of the deduplication windows.
DRIVER_MEMORY_MB = 3072

#: A driver refuses a wrong password after 5 s and a wrong checkpoint after 20-40 s: the back-off must apply too.
DRIVER_START_SECONDS = 60


def services(layout: Layout) -> tuple[Service, ...]:
    """Every service of the environment on this machine, in display order.

    Services at other machines' addresses are built by Ansible and omitted here. Raises ConfigurationError when none is
    left.
    """
    brokers = tuple(_broker(layout, broker) for broker in layout.topology.kafka.brokers)
    every = (
        _postgres(layout),
        _minio(layout),
        *brokers,
        _registry(layout),
        _streaming(layout),
        *cluster_services(layout),
        *monitoring_services(layout),
    )
    here = tuple(service for service in every if all(endpoint.is_here for endpoint in service.endpoints))
    if all(service.on_demand for service in here):
        raise ConfigurationError(
            f"topology {layout.topology.environment} puts no service on this machine's loopback addresses, so the "
            "embedded stack has nothing to run; its machines are built by ansible/playbooks/site.yml"
        )
    return here


def started_by_up(layout: Layout, more: Iterable[str] = ()) -> tuple[Service, ...]:
    """The services that `up` starts: those of the default profiles and of the profiles `more`.

    Raises ConfigurationError for an unknown profile, and for a profile without services here.
    """
    known = services(layout)
    wanted = DEFAULT_PROFILES | {_profile(name, known, layout) for name in more}
    return tuple(service for service in known if service.profile in wanted and not service.on_demand)


def _profile(name: str, known: tuple[Service, ...], layout: Layout) -> Profile:
    if name not in list(Profile):
        raise ConfigurationError(f"profile {name!r} does not exist; one of: {', '.join(Profile)}")
    filled = {service.profile for service in known if not service.on_demand}
    if name not in filled:
        with_services = ", ".join(profile for profile in Profile if profile in filled)
        raise ConfigurationError(
            f"profile {name} has no service in stack {layout.topology.environment}; profiles with services: "
            f"{with_services}"
        )
    return Profile(name)


def _marked(layout: Layout, **more: str) -> dict[str, str]:
    return {MARKER_VARIABLE: layout.marker, **more}


def _broker(layout: Layout, broker: Broker) -> Service:
    config = layout.config / f"{kafka_name(broker)}.properties"
    kafka, for_pods = layout.topology.kafka, layout.topology.pods_listener(broker)
    return Service(
        name=kafka_name(broker),
        profile=Profile.CORE,
        command=(
            java(),
            f"-Xmx{kafka.heap_mb}m",
            "-XX:+UseSerialGC",  # the smallest collector: three brokers share a laptop
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dlog4j2.configurationFile={LOGGING_CONFIG}",
            "-Dlog4j2.disable.jmx=true",
            f"-javaagent:{jmx_agent()}={broker.metrics.listen}:{MONITORING_DIR / 'kafka-jmx.yaml'}",
            "-cp",
            f"{kafka_jars()}/*",
            "kafka.Kafka",
            str(config),
        ),
        endpoints=(broker, broker.controller, broker.metrics, *([for_pods] if for_pods else [])),
        healthy=lambda: health.kafka_broker(broker),
        memory_mb=kafka.heap_mb + BESIDE_HEAP_MB["kafka"],
        stop_seconds=STOP_SECONDS["kafka"],
        environment=_marked(layout),
        prepare=lambda _accounts: kafka_nodes.prepare_broker(layout, broker),
    )


def _registry(layout: Layout) -> Service:
    registry = layout.topology.schema_registry
    # WRITE_DELAY=0: acknowledged writes are on disk, so that kill -9 loses no schema.
    database = f"jdbc:h2:file:{layout.registry_data / 'registry'};WRITE_DELAY=0;DB_CLOSE_ON_EXIT=FALSE"
    jar = next(iter(sorted(registry_jars().glob("*-runner.jar"))), registry_jars() / "runner.jar")
    return Service(
        name="registry",
        profile=Profile.CORE,
        command=(
            java(),
            f"-Xmx{registry.heap_mb}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",  # faster start; at a few requests a minute the C2 compiler never pays off
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dquarkus.http.host={registry.bind}",
            "-Dquarkus.log.file.enable=false",
            "-Dquarkus.datasource.jdbc.initial-size=1",
            "-Dquarkus.datasource.jdbc.min-size=1",
            "-Dquarkus.datasource.jdbc.max-size=10",
            "-jar",
            str(jar),
        ),
        endpoints=(registry,),
        healthy=lambda: health.http_ok(f"{registry.url}/subjects"),
        memory_mb=registry.heap_mb + BESIDE_HEAP_MB["registry"],
        stop_seconds=STOP_SECONDS["registry"],
        environment=_marked(
            layout,
            HTTP_PORT=str(registry.port),
            REGISTRY_DATASOURCE_URL=database,
            REGISTRY_LOG_LEVEL="WARN",
        ),
    )


def _minio(layout: Layout) -> Service:
    store = layout.topology.object_store
    console = store.at(store.console_port)
    return Service(
        name=MINIO,
        profile=Profile.CORE,
        command=(
            str(MINIO_BINARY),
            "server",
            "--quiet",
            "--address",
            store.listen,
            "--console-address",
            console.listen,
            str(layout.minio_data),
        ),
        endpoints=(store, console),
        healthy=lambda: health.http_ok(f"{store.url}/minio/health/ready"),
        memory_mb=MINIO_MEMORY_MB,
        stop_seconds=STOP_SECONDS[MINIO],
        environment=_marked(
            layout,
            MINIO_ROOT_USER_FILE=str(layout.secrets / "minio-root-user"),
            MINIO_ROOT_PASSWORD_FILE=str(layout.secrets / "minio-root-password"),
            MINIO_REGION=store.region,
            MINIO_UPDATE="off",  # no call to the outside
            GOMEMLIMIT=f"{MINIO_MEMORY_MB}MiB",
        ),
        prepare=lambda accounts: object_store.prepare_minio(layout, accounts[STACK]),
        provision=lambda accounts: object_store.apply_accounts(layout.topology, accounts),
    )


def _postgres(layout: Layout) -> Service:
    postgres = layout.topology.postgres
    options = {
        "listen_addresses": postgres.bind,
        "port": str(postgres.port),
        "unix_socket_directories": "",  # TCP with scram only: no access through a socket
        "max_connections": "60",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    return Service(
        name="postgres",
        profile=Profile.CORE,
        command=(
            str(layout.postgres_program / "bin" / "postgres"),
            "-D",
            str(layout.postgres_data),
            *(part for key, value in options.items() for part in ("-c", f"{key}={value}")),
        ),
        endpoints=(postgres,),
        healthy=lambda: health.postgres_answers(postgres),
        memory_mb=POSTGRES_MEMORY_MB,
        stop_seconds=STOP_SECONDS["postgres"],
        environment=_marked(layout),
        user=POSTGRES_USER if needs_postgres_user() else None,
        stop_signal="INT",  # fast shutdown: end sessions, write a checkpoint
        stop_group=False,
        prepare=lambda accounts: postgres_server.prepare_postgres(layout, accounts[STACK]),
        provision=lambda accounts: postgres_server.apply_accounts(layout.topology, accounts),
    )


def _streaming(layout: Layout) -> Service:
    metrics = layout.topology.metrics.streaming
    settings = layout.run_settings(STREAMING)
    crm = (sys.executable, "-m", "data_platform_core.cli", "--env", layout.topology.environment)
    return Service(
        name=STREAMING,
        profile=Profile.CORE,
        command=run_settings.under(settings, (*crm, "stream", "run")),
        endpoints=(metrics,),
        healthy=lambda: health.streaming_driver(metrics.address),
        memory_mb=DRIVER_MEMORY_MB,
        stop_seconds=STOP_SECONDS[STREAMING],
        start_seconds=DRIVER_START_SECONDS,
        environment=_marked(layout),
        stop_group=False,  # the driver ends its queries, then its JVM
        on_demand=True,
        run_settings=settings,
    )
