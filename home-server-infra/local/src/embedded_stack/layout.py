"""Paths of the embedded stack's files for one environment: below the state folder, `.local/` by default.

One exception: PostgreSQL refuses to run as root, so under root it runs as a separate user. If that user can't reach
the checkout (a clone below `/root`), its program and data are in `FALLBACK_ROOT` instead.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from data_platform_core.paths import INSTALLED_DIR, JARS_DIR, REPOSITORY_ROOT, STATE_DIR
from data_platform_core.topology import Topology

FALLBACK_ROOT = Path("/var/lib/crm-data-platform")
POSTGRES_USER = "crm-postgres"
#: The kernel truncates Unix socket paths at 108 bytes.
MAX_SOCKET_PATH = 100
MINIO_BINARY = INSTALLED_DIR / "bin" / "minio"
ALERTMANAGER_BINARY = INSTALLED_DIR / "bin" / "alertmanager"
AMTOOL_BINARY = INSTALLED_DIR / "bin" / "amtool"
#: Rules, routes and the exporters' queries.
MONITORING_DIR = REPOSITORY_ROOT / "home-server-infra" / "monitoring"
LOGGING_CONFIG = Path(__file__).parent / "log4j2.properties"
POSTGRES_PROGRAM = INSTALLED_DIR / "postgres"


@dataclass(frozen=True)
class Layout:
    """Absolute paths of one environment."""

    topology: Topology

    @property
    def root(self) -> Path:
        return self.topology.data_path

    @property
    def secrets(self) -> Path:
        return self.topology.secrets_path

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def supervisord_conf(self) -> Path:
        return self.root / "supervisord.conf"

    @property
    def supervisord_pid(self) -> Path:
        return self.root / "supervisord.pid"

    @property
    def versions(self) -> Path:
        """Versions that wrote the data, checked before other versions open it."""
        return self.root / "versions.json"

    @property
    def supervisor_socket(self) -> Path:
        inside = self.root / "supervisor.sock"
        if len(os.fsencode(inside)) <= MAX_SOCKET_PATH:
            return inside
        return Path("/tmp") / f"crm-stack-{os.getuid()}-{_digest(self.root)}.sock"

    def kafka_data(self, broker_id: int) -> Path:
        return self.root / f"kafka-{broker_id}"

    @property
    def registry_data(self) -> Path:
        return self.root / "registry"

    def run_settings(self, service: str) -> Path:
        """Settings of a run that a service is started with; see `run_settings.py`."""
        return self.config / f"{service}.run.json"

    @property
    def spark_work(self) -> Path:
        """Logs of the standalone cluster's executors, by application."""
        return self.root / "spark-work"

    @property
    def minio_data(self) -> Path:
        return self.root / "minio"

    @property
    def prometheus_config(self) -> Path:
        return self.config / "prometheus.yml"

    @property
    def rules(self) -> Path:
        """Prometheus' rules, with the waits of this environment."""
        return self.config / "rules"

    @property
    def prometheus_data(self) -> Path:
        return self.root / "prometheus"

    @property
    def alertmanager_config(self) -> Path:
        return self.config / "alertmanager.yml"

    @property
    def alertmanager_data(self) -> Path:
        return self.root / "alertmanager"

    @property
    def receivers(self) -> Path:
        """Files that a person puts there: `slack-url`, `webhook-url`, `webhook-token`, `smtp-password`."""
        return self.secrets / "receivers"

    @property
    def sink_slack_url(self) -> Path:
        return self.secrets / "sink-slack-url"

    @property
    def sink_webhook_url(self) -> Path:
        return self.secrets / "sink-webhook-url"

    @property
    def alerts(self) -> Path:
        """Messages of the alert sink, one JSON object per line."""
        return self.root / "alerts.jsonl"

    @property
    def postgres_home(self) -> Path:
        """Parent of PostgreSQL's data: the data folder, or a folder that its own user can reach."""
        fallback = self._fallback / self.topology.environment
        if not needs_postgres_user():
            return self.root
        if (fallback / "postgres").exists():  # existing data is not moved, even if the folders' modes change
            return fallback
        reachable = reachable_by_others(self.root) and reachable_by_others(POSTGRES_PROGRAM / "bin")
        return self.root if reachable else fallback

    @property
    def postgres_data(self) -> Path:
        return self.postgres_home / "postgres"

    @property
    def postgres_program(self) -> Path:
        """Folder with `bin/postgres` that the account running it can execute."""
        if self.postgres_home == self.root:
            return POSTGRES_PROGRAM
        return self._fallback / "program"

    @property
    def _fallback(self) -> Path:
        # Unique per checkout or state folder: two state folders never share data.
        return FALLBACK_ROOT / _digest(REPOSITORY_ROOT if STATE_DIR == INSTALLED_DIR else STATE_DIR)

    @property
    def marker(self) -> str:
        """Value of MARKER_VARIABLE in every process of this stack, by which stray ones are found."""
        return str(self.root)


#: In the environment of every process of the stack.
MARKER_VARIABLE = "EMBEDDED_STACK_DATA"


def needs_postgres_user() -> bool:
    """Whether the user is root: PostgreSQL refuses uid 0."""
    return os.geteuid() == 0


def reachable_by_others(path: Path) -> bool:
    """Whether other users can traverse each folder from `/` to `path`."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in [path, *path.parents] if part.exists())


def java() -> str:
    """Path of the JVM; only the name if it is missing, which the preflight reports."""
    return shutil.which("java") or "java"


def registry_jars() -> Path:
    """Apicurio's runnable jar and its lib folder."""
    return JARS_DIR / "registry"


def kafka_jars() -> Path:
    """The class path of a broker."""
    return JARS_DIR / "kafka"


def jmx_agent() -> Path:
    """The java agent that serves a broker's metrics."""
    return JARS_DIR / "jmx" / "jmx_prometheus_javaagent.jar"


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
