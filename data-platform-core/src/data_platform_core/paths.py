"""Locations of files: the platform reads below one home and writes below one state folder.

Home is `CRM_HOME`, by default this module's checkout. It has contracts, topologies, scenarios and the dbt project in
the repository's layout, and `.local/` with what `make setup` installed. State is `CRM_STATE`, by default `.local/` of
the home. It has secrets, logs, Spark's scratch space, dbt's output and the embedded stack's data. So a home may be
read-only, as in an image (ADR 0023).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from data_platform_core.errors import ConfigurationError

HOME_VARIABLE: Final = "CRM_HOME"
STATE_VARIABLE: Final = "CRM_STATE"

REPOSITORY_ROOT: Final = Path(os.environ.get(HOME_VARIABLE) or Path(__file__).resolve().parents[3])
CONTRACTS_DIR: Final = REPOSITORY_ROOT / "data-platform-core" / "contracts"
TOPOLOGY_DIR: Final = REPOSITORY_ROOT / "home-server-infra" / "topology"
SCENARIOS_DIR: Final = REPOSITORY_ROOT / "data-generator" / "scenarios"
DBT_DIR: Final = REPOSITORY_ROOT / "dbt"
#: Programs and jars; only set-up writes here.
INSTALLED_DIR: Final = REPOSITORY_ROOT / ".local"
JARS_DIR: Final = INSTALLED_DIR / "jars"

STATE_DIR: Final = Path(os.environ.get(STATE_VARIABLE) or INSTALLED_DIR)


def require_folder(folder: Path, what: str) -> Path:
    """`folder`, a part of the home. Raises ConfigurationError naming it and CRM_HOME if it does not exist."""
    _refuse_relative(HOME_VARIABLE, REPOSITORY_ROOT)
    if not folder.is_dir():
        raise ConfigurationError(
            f"folder {folder} with {what} does not exist; set {HOME_VARIABLE} (now {REPOSITORY_ROOT}) to a folder that "
            "is laid out as the repository"
        )
    return folder


def environment_folder(environment: str) -> Path:
    """The state folder of one environment. Raises ConfigurationError when CRM_STATE is a relative path."""
    _refuse_relative(STATE_VARIABLE, STATE_DIR)
    return STATE_DIR / environment


def writable_folder(folder: Path) -> Path:
    """`folder`, created if missing. Raises ConfigurationError naming it and CRM_STATE if it is not writable."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        allowed = os.access(folder, os.W_OK | os.X_OK)
        reason = "" if allowed else "permission denied"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise ConfigurationError(
            f"state folder {folder} can't be written ({reason}); set {STATE_VARIABLE} (now {STATE_DIR}) to a folder "
            "that this user may write"
        )
    return folder


def _refuse_relative(variable: str, path: Path) -> None:
    # The platform's processes run in different working folders.
    if not path.is_absolute():
        raise ConfigurationError(f"{variable} is {str(path)!r}, a relative path; give an absolute one")
