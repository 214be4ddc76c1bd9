"""PostgreSQL: its data directory, and a role with a password per service.

Schemas and grants are created by the migrations of `data_platform_core.warehouse`, not here.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from data_platform_core.access import postgres
from data_platform_core.access.matrix import load_matrix
from data_platform_core.access.names import STACK, role
from data_platform_core.errors import ServiceError
from data_platform_core.secret_files import write_secret
from data_platform_core.topology import Topology
from embedded_stack.credentials import Account
from embedded_stack.layout import POSTGRES_PROGRAM, POSTGRES_USER, Layout, needs_postgres_user

INITDB_TIMEOUT_SECONDS = 120
CONNECT_TIMEOUT_SECONDS = 5


def prepare_postgres(layout: Layout, stack: Account) -> list[str]:
    """Create the program folder and the data directory if missing.

    Returns notes for the user (such as a folder outside the checkout), a line each.
    """
    notes = _ensure_fallback(layout) if layout.postgres_home != layout.root else []
    if not (layout.postgres_data / "PG_VERSION").is_file():
        _initialise(layout, stack)
    return notes


def ensure_user() -> list[str]:
    """Create the account for PostgreSQL under root. Returns a note if it was created now."""
    if not needs_postgres_user():
        return []
    try:
        pwd.getpwnam(POSTGRES_USER)
        return []
    except KeyError:
        pass
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "--user-group", POSTGRES_USER]
    _run(command, f"making the system user {POSTGRES_USER}")
    return [f"made the system user {POSTGRES_USER}: PostgreSQL refuses to run as root"]


def _ensure_fallback(layout: Layout) -> list[str]:
    """Program and data where POSTGRES_USER can reach them, for checkouts it can't traverse."""
    program = layout.postgres_program
    layout.postgres_home.mkdir(parents=True, exist_ok=True)
    if (program / "bin" / "postgres").is_file():
        return []
    partial = program.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(POSTGRES_PROGRAM, partial, symlinks=True)
    partial.rename(program)
    return [f"PostgreSQL's data is in {layout.postgres_home}: its user can't reach the checkout"]


def _initialise(layout: Layout, stack: Account) -> None:
    """initdb into a temporary folder that is renamed when complete."""
    partial = layout.postgres_home / "postgres.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    login = stack.postgres_login
    with tempfile.NamedTemporaryFile("w", prefix="crm-", suffix=".pw") as password:
        password.write(login[1])
        password.flush()
        command = [str(layout.postgres_program / "bin" / "initdb"), "-D", str(partial)]
        command += ["--username", login[0], "--pwfile", password.name, "--auth", "scram-sha-256"]
        # The same sort order on every machine, from PostgreSQL itself instead of the system's libraries.
        command += [
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--locale-provider",
            "builtin",
            "--builtin-locale",
            "C.UTF-8",
        ]
        if needs_postgres_user():
            shutil.chown(password.name, POSTGRES_USER)
            shutil.chown(partial, POSTGRES_USER, POSTGRES_USER)
            command = ["runuser", "-u", POSTGRES_USER, "--", *command]
        _run(command, f"initdb in {partial}")
    partial.rename(layout.postgres_data)


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=INITDB_TIMEOUT_SECONDS,
        check=False,
        cwd="/",
        env=_plain_locale(),
    )
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise ServiceError(f"{what} failed: {last[0]}")


def _plain_locale() -> dict[str, str]:
    return {"PATH": os.defpath + ":/usr/sbin:/sbin", "LC_ALL": "C"}


def apply_accounts(topology: Topology, accounts: Mapping[str, Account]) -> None:
    """Set up roles, passwords and the database from the secrets. Idempotent."""
    with _connect(topology, accounts[STACK], "postgres") as connection:
        for name in load_matrix().postgres:
            _apply_role(connection, accounts[name])
        for watcher in postgres.statistics_roles(load_matrix()):
            connection.execute(sql.SQL("GRANT pg_monitor TO {}").format(sql.Identifier(watcher)))
        # By default any role may connect to these too; only the stack itself needs access.
        connection.execute("REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC")
        _apply_database(connection, topology.postgres.database)


def _apply_role(connection: psycopg.Connection, account: Account) -> None:
    name, password = account.postgres_login
    role = sql.Identifier(name)
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(password)))


def _apply_database(connection: psycopg.Connection, name: str) -> None:
    database, matrix = sql.Identifier(name), load_matrix()
    owner = sql.Identifier(role(postgres.owner(matrix)))
    if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, owner))
    # By default any role may connect and create temporary tables; a role without its own schema needs neither.
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    roles = [sql.Identifier(name) for name in postgres.roles(matrix)]
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.SQL(", ").join(roles)))


def _connect(topology: Topology, account: Account, database: str) -> psycopg.Connection:
    login = account.postgres_login
    try:
        return psycopg.connect(
            host=topology.postgres.host,
            port=topology.postgres.port,
            dbname=database,
            user=login[0],
            password=login[1],
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            autocommit=True,
        )
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ServiceError(f"PostgreSQL at {topology.postgres.address} refuses the stack's account: {reason}") from None


def write_passfile(topology: Topology, account: Account, path: Path) -> None:
    """A password file for psql, mode 0600."""
    login = account.postgres_login
    postgres = topology.postgres
    write_secret(path, f"{postgres.host}:{postgres.port}:{postgres.database}:{login[0]}:{login[1]}\n")
