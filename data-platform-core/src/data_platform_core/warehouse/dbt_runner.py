"""Runs dbt, which lives in an environment of its own, as a child process with the dbt role's credentials."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.settings import Settings
from data_platform_core.topology import load_topology
from data_platform_core.warehouse.connections import connect
from data_platform_core.warehouse.dbt_sources import DBT_PROJECT

#: On a laptop `make setup` makes this one; in an image dbt is on the PATH.
_VENV_DBT = REPOSITORY_ROOT / ".local" / "venvs" / "dbt" / "bin" / "dbt"
#: Failures named in the error line; the rest are in dbt's own output above it.
_NAMED_FAILURES = 3


def dbt_build(settings: Settings, arguments: Sequence[str] = ()) -> None:
    """`dbt build`: models, then their tests. `settings` are the dbt role's; `arguments` go to dbt as they are.

    Raises ServiceError naming the first failures when anything fails.
    """
    run_dbt(settings, ("build",), arguments)


def dbt_docs(settings: Settings, arguments: Sequence[str] = ()) -> Path:
    """`dbt docs generate`; the one HTML file that holds the whole site."""
    run_dbt(settings, ("docs", "generate", "--static"), arguments)
    return _output(settings) / "target" / "static_index.html"


def run_dbt(settings: Settings, command: Sequence[str], arguments: Sequence[str] = ()) -> None:
    """One dbt command in the project, its output passed through. Raises as `dbt_build` does."""
    # Asked first: dbt's own word on a wrong password is a page long.
    connect(settings.postgres, "crm-dbt-check").close()
    output = _output(settings)
    results = output / "target" / "run_results.json"
    results.unlink(missing_ok=True)
    options = (
        *("--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT)),
        *("--target-path", str(output / "target"), "--log-path", str(output / "logs")),
    )
    ended = subprocess.run(
        (str(_dbt()), *command, *options, *arguments),
        env=_environment(settings, output),
        cwd=DBT_PROJECT,
        check=False,
    )
    if ended.returncode:
        raise ServiceError(f"dbt {command[0]} failed{_failures(results)}; its log is {output / 'logs' / 'dbt.log'}")


def _output(settings: Settings) -> Path:
    """Where dbt writes: beside the environment's other run-time files, so that two environments don't meet."""
    folder = load_topology(settings.environment).data_path / "dbt"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _dbt() -> Path:
    found = _VENV_DBT if _VENV_DBT.is_file() else shutil.which("dbt")
    if not found:
        raise ConfigurationError(f"dbt is neither at {_VENV_DBT} nor on the PATH; run `make setup`")
    return Path(found)


def _environment(settings: Settings, home: Path) -> dict[str, str]:
    """The child's whole environment: what `profiles.yml` asks for, and nothing of ours."""
    postgres = settings.postgres
    return {
        "CRM_POSTGRES__HOST": postgres.host,
        "CRM_POSTGRES__PORT": str(postgres.port),
        "CRM_POSTGRES__DATABASE": postgres.database,
        "CRM_POSTGRES__USER": postgres.user,
        "CRM_POSTGRES__PASSWORD": postgres.password.get_secret_value(),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        # Not the user's own: an ~/.dbt or a .pgpass there must not change what a build does.
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PATH": os.defpath,
    }


def _failures(results: Path) -> str:
    """Which nodes failed, from dbt's own report."""
    try:
        nodes = json.loads(results.read_text(encoding="utf-8"))["results"]
    except (OSError, ValueError, KeyError):
        return ""
    # A node's id is kind.project.name, and a generated test's has a hash behind it.
    failed = [node["unique_id"].split(".")[2] for node in nodes if node["status"] in ("error", "fail", "runtime error")]
    if not failed:
        return ""
    more = f" and {len(failed) - _NAMED_FAILURES} more" if len(failed) > _NAMED_FAILURES else ""
    return f": {', '.join(failed[:_NAMED_FAILURES])}{more}"
