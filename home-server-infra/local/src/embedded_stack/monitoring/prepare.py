"""Prepares the monitoring's services on disk: configuration, folders, and secrets as files."""

from __future__ import annotations

import time

import jwt

from data_platform_core.secret_files import write_secret
from embedded_stack.credentials import Account
from embedded_stack.layout import Layout
from embedded_stack.monitoring.config import write_alertmanager, write_prometheus

#: Lifetime of Prometheus' token for the object store; each start creates a new one.
TOKEN_DAYS = 365
#: A secret of the store has 40 characters at most: too short a key for HS512, long enough for this one (RFC 7518).
_TOKEN_ALGORITHM = "HS256"


def prepare_postgres_exporter(layout: Layout, account: Account) -> None:
    """The exporter's credentials as files."""
    user, password = account.postgres_login
    write_secret(layout.secrets / "postgres-exporter-user", user)
    write_secret(layout.secrets / "postgres-exporter-password", password)


def prepare_prometheus(layout: Layout, account: Account) -> None:
    """Data folder, token for the object store's metrics, configuration and rules."""
    layout.prometheus_data.mkdir(mode=0o700, exist_ok=True)
    token = metrics_token(*account.store_login, expires=int(time.time()) + TOKEN_DAYS * 86_400)
    write_secret(layout.secrets / "minio-metrics-token", token)
    write_prometheus(layout)


def prepare_alertmanager(layout: Layout) -> None:
    """Data folder, folder for real receivers, addresses of the sink, configuration."""
    layout.alertmanager_data.mkdir(mode=0o700, exist_ok=True)
    layout.receivers.mkdir(mode=0o700, exist_ok=True)
    sink = layout.topology.monitoring.alert_sink.url
    write_secret(layout.sink_slack_url, f"{sink}/slack")
    write_secret(layout.sink_webhook_url, f"{sink}/webhook")
    write_alertmanager(layout)


def metrics_token(access_key: str, secret_key: str, expires: int) -> str:
    """A bearer token for the object store's metrics, signed with the account's secret. `expires` in epoch seconds.

    The store requires a JSON Web Token of issuer `prometheus`. The account's policy allows `admin:Prometheus` only, so
    that a leaked token can read metrics and nothing else.
    """
    claims = {"exp": expires, "sub": access_key, "iss": "prometheus"}
    return jwt.encode(claims, secret_key, algorithm=_TOKEN_ALGORITHM)
