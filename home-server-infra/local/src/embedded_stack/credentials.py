"""Accounts and secrets, created once per environment: `<data_path>/secrets/<account>.env`, mode 0600, folder 0700.

The files use settings.py's variable names, so that a service's file is its environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from data_platform_core.access.matrix import load_matrix
from data_platform_core.access.names import STACK, access_key, role
from data_platform_core.errors import ServiceError
from data_platform_core.secret_files import new_secret, write_secret

#: PostgreSQL's name of the account that initdb creates.
_SUPERUSER = "postgres"

ACCESS_KEY = "CRM_OBJECT_STORE__ACCESS_KEY"
SECRET_KEY = "CRM_OBJECT_STORE__SECRET_KEY"
PG_USER = "CRM_POSTGRES__USER"
PG_PASSWORD = "CRM_POSTGRES__PASSWORD"


@dataclass(frozen=True, repr=False)
class Account:
    """Credentials of one service. No repr: it would print them."""

    name: str
    values: Mapping[str, str]

    @property
    def store_login(self) -> tuple[str, str]:
        """(access key, secret key). Raises ServiceError when the account has none."""
        return self._pair(ACCESS_KEY, SECRET_KEY)

    @property
    def postgres_login(self) -> tuple[str, str]:
        """(role, password). Raises ServiceError when the account has none."""
        return self._pair(PG_USER, PG_PASSWORD)

    def _pair(self, first: str, second: str) -> tuple[str, str]:
        for name in (first, second):
            if not self.values.get(name):
                raise ServiceError(f"credentials of {self.name} lack {name}; `make clean` and `make up` recreate them")
        return self.values[first], self.values[second]


def ensure_accounts(folder: Path) -> dict[str, Account]:
    """The accounts of an environment by service name; missing entries of a file are added, existing ones kept."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    matrix = load_matrix()
    names = sorted({*matrix.object_store, *matrix.postgres, STACK})
    for name in names:
        path = folder / f"{name}.env"
        # For a Kafka with passwords a playbook wrote the file.
        there = path.read_text(encoding="utf-8") if path.is_file() else ""
        new = {key: value for key, value in _new_values(name).items() if key not in _values(path)}
        if new or not there:
            joint = "" if there.endswith("\n") or not there else "\n"
            write_secret(path, there + joint + "".join(f"{key}={value}\n" for key, value in new.items()))
    return {name: read_account(folder, name) for name in names}


def read_account(folder: Path, name: str) -> Account:
    """Raises ServiceError when the stack has not made it."""
    path = folder / f"{name}.env"
    if not path.is_file():
        raise ServiceError(f"credentials {path} do not exist; start the stack first: `make up`")
    return Account(name, _values(path))


def _values(path: Path) -> dict[str, str]:
    """The content of a file, parsed like the settings; empty without the file."""
    found = dotenv_values(path, interpolate=False, encoding="utf-8")
    return {name: value for name, value in found.items() if value is not None}


def _new_values(name: str) -> dict[str, str]:
    values: dict[str, str] = {}
    matrix = load_matrix()
    if name in matrix.object_store or name == STACK:
        values |= {ACCESS_KEY: access_key(name), SECRET_KEY: new_secret()}
    if name in matrix.postgres or name == STACK:
        values |= {PG_USER: _SUPERUSER if name == STACK else role(name), PG_PASSWORD: new_secret()}
    return values
