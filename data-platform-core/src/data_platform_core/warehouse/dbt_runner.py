"""Runs dbt from its own environment, as a child process with the dbt role's credentials."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from data_platform_core.commands import interrupts_held
from data_platform_core.errors import ConfigurationError, ServiceError, UnreachableError
from data_platform_core.paths import DBT_DIR, INSTALLED_DIR, require_folder, writable_folder
from data_platform_core.settings import Settings
from data_platform_core.warehouse.connections import DEAD_CLIENT_CHECK, POSTGRES, connect
from data_platform_core.warehouse.outage import resumed, watch

#: On a laptop `make setup` creates this one; in an image dbt is on the PATH.
_VENV_DBT = INSTALLED_DIR / "venvs" / "dbt" / "bin" / "dbt"
#: Failures named in the error line; the rest are in dbt's own output above it.
_NAMED_FAILURES = 3
_LOST = (
    "server closed the connection unexpectedly",
    "terminating connection due to administrator command",
    "terminating connection because of crash",
    "the database system is",  # starting up, shutting down, in recovery mode
    "connection to server at",  # ... failed: Connection refused, timeout expired
    "connection already closed",
    "SSL SYSCALL error",
    "could not receive data from server",
)


def dbt_build(settings: Settings, arguments: Sequence[str] = ()) -> None:
    """`dbt build`: models, then their tests. `settings` are the dbt role's; `arguments` are passed to dbt unchanged.

    Raises ServiceError naming the first failures when anything fails.
    """
    run_dbt(settings, ("build",), arguments)


def dbt_freshness(settings: Settings, arguments: Sequence[str] = ()) -> None:
    """Run `dbt source freshness`: each entity's newest load against its contract.

    Raises ServiceError naming the entities that are later than their contract's limit.
    """
    run_dbt(settings, ("source", "freshness"), arguments)


def dbt_docs(settings: Settings, arguments: Sequence[str] = ()) -> Path:
    """Run `dbt docs generate`; returns the path of the single HTML file with the whole site."""
    run_dbt(settings, ("docs", "generate", "--static"), arguments)
    return _output(settings) / "target" / "static_index.html"


def dbt_parse(settings: Settings) -> None:
    """Run `dbt parse`, without connections. Raises ServiceError if the project can't be parsed."""
    require_folder(DBT_DIR, "the dbt project")
    output = _output(settings)
    if _wait(_start(settings, output, ("--quiet", "parse"))):
        raise ServiceError(f"dbt parse failed; its log is {output / 'logs' / 'dbt.log'}")


def run_dbt(settings: Settings, command: Sequence[str], arguments: Sequence[str] = ()) -> None:
    """Run one dbt command in the project, its output passed through. Raises the same errors as `dbt_build`.

    During an outage of PostgreSQL it waits, within bounds, and then runs the command again from the beginning. That is
    safe, because each model is replaced in its own transaction.
    """
    require_folder(DBT_DIR, "the dbt project")
    # Checked first: dbt's own message about a wrong password is a page long.
    connect(settings.postgres, "crm-dbt-check").close()
    resumed(lambda: _run_once(settings, command, arguments))


def _run_once(settings: Settings, command: Sequence[str], arguments: Sequence[str]) -> None:
    connect(settings.postgres, "crm-dbt-check").close()
    output = _output(settings)
    results = output / "target" / ("sources.json" if command[0] == "source" else "run_results.json")
    results.unlink(missing_ok=True)
    log = output / "logs" / "dbt.log"
    logged = log.stat().st_size if log.is_file() else 0
    child = _start(settings, output, (*command, *arguments))
    # dbt sets no statement timeout: with a frozen server it would wait forever.
    with watch(settings.postgres, child.kill):
        code = _wait(child)
    if not code:
        return
    failed = f"dbt {' '.join(command[:2])} failed{_failures(results)}; its log is {log}"
    if code == -signal.SIGKILL or connection_lost(_since(log, logged)):
        postgres = settings.postgres
        raise UnreachableError(POSTGRES, f"PostgreSQL {postgres.host}:{postgres.port} was lost: {failed}")
    raise ServiceError(failed)


def _start(settings: Settings, output: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
    """dbt never sees Ctrl-C: while it starts it would answer with a traceback. `_wait` ends it instead."""
    with interrupts_held():
        return subprocess.Popen(_command(output, command), env=_environment(settings, output), cwd=DBT_DIR)


def _wait(child: subprocess.Popen[bytes]) -> int:
    """dbt's exit code. An interrupt ends dbt at once; its server rolls back what was not committed."""
    try:
        return child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise


def connection_lost(log: str) -> bool:
    """Whether dbt's log has messages of libpq or PostgreSQL about a lost server."""
    return any(words in log for words in _LOST)


def _since(log: Path, logged: int) -> str:
    """dbt's log after the first `logged` bytes; all of it after a log rotation."""
    content = log.read_bytes() if log.is_file() else b""
    return content[logged if len(content) >= logged else 0 :].decode(errors="replace")


def _output(settings: Settings) -> Path:
    """dbt's output folder, below the environment's data, so that two environments don't collide."""
    return writable_folder(settings.data_path / "dbt")


def _command(output: Path, command: Sequence[str]) -> tuple[str, ...]:
    """A dbt command line that writes only below `output`."""
    return (
        str(_dbt()),
        *command,
        *("--project-dir", str(DBT_DIR), "--profiles-dir", str(DBT_DIR)),
        *("--target-path", str(output / "target"), "--log-path", str(output / "logs")),
    )


def _dbt() -> Path:
    found = _VENV_DBT if _VENV_DBT.is_file() else shutil.which("dbt")
    if not found:
        raise ConfigurationError(f"dbt is neither at {_VENV_DBT} nor on the PATH; run `make setup`")
    return Path(found)


def _environment(settings: Settings, home: Path) -> dict[str, str]:
    """The child's complete environment: the variables of `profiles.yml`, without ours."""
    postgres = settings.postgres
    return {
        "CRM_POSTGRES__HOST": postgres.host,
        "CRM_POSTGRES__PORT": str(postgres.port),
        "CRM_POSTGRES__DATABASE": postgres.database,
        "CRM_POSTGRES__USER": postgres.user,
        "CRM_POSTGRES__PASSWORD": postgres.password.get_secret_value(),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        # Not the user's home: its ~/.dbt or .pgpass must not affect a build.
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PATH": os.defpath,
        # Backends of a killed dbt exit within seconds, even during a statement.
        "PGOPTIONS": DEAD_CLIENT_CHECK,
    }


def _failures(results: Path) -> str:
    """The failed nodes, from dbt's report."""
    try:
        nodes = json.loads(results.read_text(encoding="utf-8"))["results"]
    except (OSError, ValueError, KeyError):
        return ""
    failed = [_name(node["unique_id"]) for node in nodes if node["status"] in ("error", "fail", "runtime error")]
    if not failed:
        return ""
    more = f" and {len(failed) - _NAMED_FAILURES} more" if len(failed) > _NAMED_FAILURES else ""
    return f": {', '.join(failed[:_NAMED_FAILURES])}{more}"


def _name(node: str) -> str:
    """The name in a node's id: kind.project.name, of a source its table's, of a generated test with a hash behind."""
    kind, _project, *names = node.split(".")
    return names[-1] if kind == "source" else names[0]
