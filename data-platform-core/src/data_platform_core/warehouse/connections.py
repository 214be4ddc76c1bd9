"""Connections to PostgreSQL, with errors that say which setting to look at."""

from __future__ import annotations

import psycopg

from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.settings import PostgresSettings

#: A server that doesn't answer within this is reported, not waited for.
CONNECT_TIMEOUT_S = 10
#: A backend whose client was killed lets go of its locks within this, though a statement of it is running.
_DEAD_CLIENT_CHECK_MS = 2_000

_REFUSALS = ("password authentication failed", "no password supplied", "authentication failed", "pg_hba.conf")


def connect(postgres: PostgresSettings, application: str, *, autocommit: bool = False) -> psycopg.Connection:
    """A connection whose session speaks UTC and UTF-8.

    Raises ServiceError when the server is away, refuses the credentials or lacks the database, and ConfigurationError
    when no user is set. The password is never part of a message.
    """
    where = f"PostgreSQL {postgres.host}:{postgres.port}"
    if not postgres.user:
        raise ConfigurationError(f"CRM_POSTGRES__USER is not set, so {where} can't be asked; `make up` writes it")
    try:
        return psycopg.connect(
            host=postgres.host,
            port=postgres.port,
            dbname=postgres.database,
            user=postgres.user,
            password=postgres.password.get_secret_value(),
            application_name=application,
            connect_timeout=CONNECT_TIMEOUT_S,
            client_encoding="UTF8",
            options=f"-c TimeZone=UTC -c client_connection_check_interval={_DEAD_CLIENT_CHECK_MS}",
            autocommit=autocommit,
            # A server whose machine vanished is noticed: probes after 10 s of silence, three at 5 s.
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
    except psycopg.OperationalError as error:
        raise ServiceError(_explanation(postgres, where, str(error))) from None


def _explanation(postgres: PostgresSettings, where: str, message: str) -> str:
    if any(refusal in message for refusal in _REFUSALS):
        return (
            f"{where} refuses user {postgres.user!r}; check CRM_POSTGRES__USER and CRM_POSTGRES__PASSWORD "
            "(the embedded stack's are under its data folder, in secrets/)"
        )
    if "CONNECT privilege" in message:
        return f"{where} does not let user {postgres.user!r} in yet; `crm warehouse migrate` grants it"
    if "does not exist" in message and "database" in message:
        return f"{where} has no database {postgres.database!r}; `make up` creates it, or set CRM_POSTGRES__DATABASE"
    # libpq: `connection to server at ..., port ... failed: <reason>`, then hints on lines of their own.
    reason = message.strip().partition("\n")[0].rpartition("failed: ")[2] or "no reason given"
    return f"{where} does not answer ({reason}); is it up? `make status` shows it"
