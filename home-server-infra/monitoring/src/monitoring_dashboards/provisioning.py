"""Values for Grafana's provisioning files: addresses and the reader's password, in a secret file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from data_platform_core.errors import ServiceError
from data_platform_core.settings import load_settings
from data_platform_core.topology import load_topology

#: Variables of the files: the environment, its addresses, and the dashboards' folder.
VARIABLES: Final = (
    "PLATFORM_ENVIRONMENT",
    "PROMETHEUS_URL",
    "PROMETHEUS_SCRAPE_INTERVAL",
    "WAREHOUSE_ADDRESS",
    "WAREHOUSE_DATABASE",
    "WAREHOUSE_USER",
    "WAREHOUSE_PASSWORD",
    "WAREHOUSE_SSLMODE",
    "DASHBOARDS_FOLDER",
)
#: A folder that an installed Grafana can read, unlike a checkout in a home folder.
_FOLDER: Final = "/etc/grafana/dashboards"


def write_environment(environment: str) -> Path:
    """Write `<data_path>/secrets/grafana.env` (mode 0600) and return its path.

    Raises ServiceError when the reader has no password yet.
    """
    topology, postgres = load_topology(environment), load_settings("reader", environment).postgres
    password = postgres.password.get_secret_value()
    if not password:
        raise ServiceError(
            f"environment {environment} has no reader.env below {topology.secrets_path}; "
            f"`make up ENV={environment}` writes it"
        )
    values = (
        environment,
        f"http://{topology.monitoring.prometheus.address}",
        # The longest of the intervals: Grafana's rates cover four of these.
        f"{topology.monitoring.scrape.servers_seconds:g}s",
        f"{postgres.host}:{postgres.port}",
        postgres.database,
        postgres.user,
        password,
        "disable",  # the embedded server listens on loopback only
        _FOLDER,
    )
    path = topology.secrets_path / "grafana.env"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in zip(VARIABLES, values, strict=True))
    return path
