"""What the monitoring's services need on disk before they start: configuration, folders, and secrets as files."""

from __future__ import annotations

import time

import jwt

from embedded_stack.credentials import Account, write_secret
from embedded_stack.layout import Layout
from embedded_stack.monitoring import programs
from embedded_stack.monitoring.config import write_alertmanager, write_prometheus

#: The object store takes Prometheus' token that long; each start makes a new one.
TOKEN_DAYS = 365
#: A secret of the store has 40 characters at most: too short a key for HS512, long enough for this one (RFC 7518).
_TOKEN_ALGORITHM = "HS256"


def prepare_monitoring(layout: Layout, name: str, account: Account) -> None:
    """Prepare one of the monitoring's services; `account` is the one of the monitoring. Others are left alone."""
    if name == programs.POSTGRES_EXPORTER:
        user, password = account.postgres_login
        write_secret(layout.secrets / "postgres-exporter-user", user)
        write_secret(layout.secrets / "postgres-exporter-password", password)
    elif name == programs.PROMETHEUS:
        layout.prometheus_data.mkdir(mode=0o700, exist_ok=True)
        token = metrics_token(*account.store_login, expires=int(time.time()) + TOKEN_DAYS * 86_400)
        write_secret(layout.secrets / "minio-metrics-token", token)
        write_prometheus(layout)
    elif name == programs.ALERTMANAGER:
        layout.alertmanager_data.mkdir(mode=0o700, exist_ok=True)
        layout.receivers.mkdir(mode=0o700, exist_ok=True)
        sink = layout.topology.monitoring.alert_sink.url
        write_secret(layout.sink_slack_url, f"{sink}/slack")
        write_secret(layout.sink_webhook_url, f"{sink}/webhook")
        write_alertmanager(layout)


def refresh(layout: Layout, name: str) -> bool:
    """Write the configuration of a running service anew. Returns whether it must read it again."""
    if name == programs.PROMETHEUS:
        return write_prometheus(layout)
    return name == programs.ALERTMANAGER and write_alertmanager(layout)


def metrics_token(access_key: str, secret_key: str, expires: int) -> str:
    """A bearer token for the object store's metrics, signed with the account's secret. `expires` in epoch seconds.

    The store asks for a JSON Web Token of issuer `prometheus`; the account's policy allows `admin:Prometheus` only, so
    that who finds the token can read figures and nothing else.
    """
    claims = {"exp": expires, "sub": access_key, "iss": "prometheus"}
    return jwt.encode(claims, secret_key, algorithm=_TOKEN_ALGORITHM)
