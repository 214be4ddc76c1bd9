"""Connections to PostgreSQL, with errors that name the setting to check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from data_platform_core.errors import ConfigurationError, ServiceError, UnreachableError
from data_platform_core.settings import PostgresSettings

#: The service's name in messages and metrics.
POSTGRES = "PostgreSQL"
#: A server that doesn't answer within this time is reported, seconds.
CONNECT_TIMEOUT_S = 10
#: libpq's options with which a backend releases its locks within seconds after its client was killed, even during a
#: statement, or after the client's machine vanished.
DEAD_CLIENT_CHECK = (
    "-c client_connection_check_interval=2000 -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 "
    "-c tcp_keepalives_count=3"
)

_REFUSALS = ("password authentication failed", "no password supplied", "authentication failed", "pg_hba.conf")


def connect(postgres: PostgresSettings, application: str, *, autocommit: bool = False) -> psycopg.Connection:
    """A connection whose session uses UTC and UTF-8.

    Raises ServiceError when the server is down, refuses the credentials or lacks the database, and ConfigurationError
    when no user is set. The password is never part of a message.
    """
    where = f"PostgreSQL {postgres.host}:{postgres.port}"
    if not postgres.user:
        raise ConfigurationError(f"CRM_POSTGRES__USER is not set, so {where} can't be used; `make up` writes it")
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
            options=f"-c TimeZone=UTC {DEAD_CLIENT_CHECK}",
            autocommit=autocommit,
            # Detects a server whose machine vanished: probes after 10 s of silence, three at 5 s.
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
    except psycopg.OperationalError as error:
        raise _explained(postgres, where, str(error)) from None


@contextmanager
def database_errors(postgres: PostgresSettings, doing: str) -> Iterator[None]:
    """Errors of statements become one line: UnreachableError for a lost server, ServiceError for a missing right or
    table. Other errors are bugs and pass. `doing` says what failed: `recording the outcome`.
    """
    where = f"PostgreSQL {postgres.host}:{postgres.port}"
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName) as error:
        raise ServiceError(
            f"{where}: {doing} failed ({error.diag.message_primary}); run `crm warehouse migrate`"
        ) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise ServiceError(
            f"{where}: {doing} failed for user {postgres.user!r} ({error.diag.message_primary}); check "
            "CRM_POSTGRES__USER, or run the migrations again"
        ) from None
    except psycopg.OperationalError as error:
        reason = error.diag.message_primary or str(error).strip().partition("\n")[0]
        raise UnreachableError(POSTGRES, f"{where} was lost while {doing} ({reason}); run it again") from None


def _explained(postgres: PostgresSettings, where: str, message: str) -> ServiceError:
    refusal = _refusal(postgres, where, message)
    if refusal is not None:
        return ServiceError(refusal)
    # libpq: `connection to server at ..., port ... failed: <reason>`, then hints on lines of their own.
    reason = message.strip().partition("\n")[0].rpartition("failed: ")[2] or "no reason given"
    return UnreachableError(POSTGRES, f"{where} does not answer ({reason}); is it up? `make status` shows it")


def _refusal(postgres: PostgresSettings, where: str, message: str) -> str | None:
    if any(refusal in message for refusal in _REFUSALS):
        return (
            f"{where} refuses user {postgres.user!r}; check CRM_POSTGRES__USER and CRM_POSTGRES__PASSWORD "
            "(the embedded stack's are under its data folder, in secrets/)"
        )
    if "CONNECT privilege" in message:
        return f"{where} does not let user {postgres.user!r} in yet; `crm warehouse migrate` grants it"
    if "does not exist" in message and "database" in message:
        return f"{where} has no database {postgres.database!r}; `make up` creates it, or set CRM_POSTGRES__DATABASE"
    return None
