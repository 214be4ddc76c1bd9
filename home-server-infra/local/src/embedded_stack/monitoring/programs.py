"""The monitoring's services: commands, addresses, health. Everything listens on loopback only."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from data_platform_core.access.names import MONITORING
from data_platform_core.paths import INSTALLED_DIR
from data_platform_core.topology import Endpoint
from embedded_stack import health
from embedded_stack.layout import ALERTMANAGER_BINARY, MARKER_VARIABLE, MONITORING_DIR, Layout
from embedded_stack.monitoring.config import write_alertmanager, write_prometheus
from embedded_stack.monitoring.prepare import prepare_alertmanager, prepare_postgres_exporter, prepare_prometheus
from embedded_stack.service import Profile, Service

PROMETHEUS = "prometheus"
ALERTMANAGER = "alertmanager"
NODE_EXPORTER = "node-exporter"
POSTGRES_EXPORTER = "postgres-exporter"
ALERT_SINK = "alert-sink"

#: Debian's packages, unpacked by `make setup`.
DEBIAN = INSTALLED_DIR / "debian"
PROGRAMS = (
    "prometheus",
    "promtool",
    "prometheus-node-exporter",
    "prometheus-postgres-exporter",
)

_STOP_SECONDS = 10
#: Resident memory to plan with, MB.
_MEMORY_MB = {PROMETHEUS: 256, ALERTMANAGER: 64, NODE_EXPORTER: 32, POSTGRES_EXPORTER: 32, ALERT_SINK: 96}
_NODE_COLLECTORS = ("cpu", "diskstats", "filesystem", "loadavg", "meminfo", "netdev", "uname", "vmstat")
#: Kinds of file systems that are not a disk of the machine.
_NO_DISKS = (
    "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fuse.*|fusectl|hugetlbfs|iso9660|mqueue|nsfs|"
    "proc|pstore|ramfs|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tmpfs|tracefs)$"
)
_NO_MOUNTS = "^/(dev|proc|run|sys|var/lib/docker/.+|var/lib/containers/.+|var/lib/kubelet/.+)($|/)"


def program(name: str) -> Path:
    """One of Debian's programs."""
    return DEBIAN / "usr" / "bin" / name


def monitoring_services(layout: Layout) -> tuple[Service, ...]:
    """In the order of the data flow: exporters, Prometheus, Alertmanager, and the sink that receives its messages."""
    return (
        _node_exporter(layout),
        _postgres_exporter(layout),
        _prometheus(layout),
        _alertmanager(layout),
        _alert_sink(layout),
    )


def _service(
    layout: Layout, name: str, command: tuple[str, ...], endpoints: tuple[Endpoint, ...], path: str
) -> Service:
    """A service that is healthy when a GET of `path` at its first address is answered with 200."""
    return Service(
        name=name,
        profile=Profile.MONITORING,
        command=command,
        endpoints=endpoints,
        healthy=lambda: health.http_ok(f"http://{endpoints[0].address}{path}"),
        memory_mb=_MEMORY_MB[name],
        stop_seconds=_STOP_SECONDS,
        environment={MARKER_VARIABLE: layout.marker, "GOMAXPROCS": "1"},  # they share a laptop with the services
    )


def _prometheus(layout: Layout) -> Service:
    monitoring = layout.topology.monitoring
    command = (
        str(program("prometheus")),
        f"--config.file={layout.prometheus_config}",
        f"--web.listen-address={monitoring.prometheus.listen}",
        f"--web.local-assets={DEBIAN / 'usr' / 'share' / 'prometheus' / 'web'}/",
        f"--storage.tsdb.path={layout.prometheus_data}",
        f"--storage.tsdb.retention.time={monitoring.retention.days}d",
        f"--storage.tsdb.retention.size={monitoring.retention.size_mb}MB",
        "--log.level=warn",
    )
    return replace(
        _service(layout, PROMETHEUS, command, (monitoring.prometheus,), "/-/ready"),
        prepare=lambda accounts: prepare_prometheus(layout, accounts[MONITORING]),
        refresh=lambda: write_prometheus(layout),
    )


def _alertmanager(layout: Layout) -> Service:
    endpoint = layout.topology.monitoring.alertmanager
    command = (
        str(ALERTMANAGER_BINARY),
        f"--config.file={layout.alertmanager_config}",
        f"--web.listen-address={endpoint.listen}",
        f"--storage.path={layout.alertmanager_data}",
        "--cluster.listen-address=",  # one Alertmanager: no gossip, which would listen on every interface
        "--log.level=warn",
    )
    return replace(
        _service(layout, ALERTMANAGER, command, (endpoint,), "/-/ready"),
        prepare=lambda _accounts: prepare_alertmanager(layout),
        refresh=lambda: write_alertmanager(layout),
    )


def _node_exporter(layout: Layout) -> Service:
    endpoint = layout.topology.monitoring.node_exporter
    command = (
        str(program("prometheus-node-exporter")),
        f"--web.listen-address={endpoint.listen}",
        "--web.disable-exporter-metrics",
        "--collector.disable-defaults",
        *(f"--collector.{name}" for name in _NODE_COLLECTORS),
        f"--collector.filesystem.fs-types-exclude={_NO_DISKS}",
        f"--collector.filesystem.mount-points-exclude={_NO_MOUNTS}",
        "--log.level=warn",
    )
    return _service(layout, NODE_EXPORTER, command, (endpoint,), "/")


def _postgres_exporter(layout: Layout) -> Service:
    endpoint, postgres = layout.topology.monitoring.postgres_exporter, layout.topology.postgres
    return Service(
        name=POSTGRES_EXPORTER,
        profile=Profile.MONITORING,
        command=(
            str(program("prometheus-postgres-exporter")),
            f"--web.listen-address={endpoint.listen}",
            "--disable-default-metrics",
            "--disable-settings-metrics",
            "--no-collector.database",
            "--no-collector.bgwriter",
            f"--extend.query-path={MONITORING_DIR / 'postgres-queries.yaml'}",
            "--log.level=warn",
        ),
        endpoints=(endpoint,),
        healthy=lambda: health.http_says(f"http://{endpoint.address}/metrics", "pg_up 1"),
        memory_mb=_MEMORY_MB[POSTGRES_EXPORTER],
        stop_seconds=_STOP_SECONDS,
        prepare=lambda accounts: prepare_postgres_exporter(layout, accounts[MONITORING]),
        environment={
            MARKER_VARIABLE: layout.marker,
            "GOMAXPROCS": "1",
            "DATA_SOURCE_URI": f"{postgres.address}/{postgres.database}?sslmode=disable",
            "DATA_SOURCE_USER_FILE": str(layout.secrets / "postgres-exporter-user"),
            "DATA_SOURCE_PASS_FILE": str(layout.secrets / "postgres-exporter-password"),
        },
    )


def _alert_sink(layout: Layout) -> Service:
    sink = layout.topology.monitoring.alert_sink
    command = (sys.executable, "-m", "embedded_stack.monitoring.sink", layout.topology.environment)
    return _service(layout, ALERT_SINK, command, (sink, sink.at(sink.smtp_port)), "/")
