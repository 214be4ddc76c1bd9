"""Writes the dashboards' JSON, or reports the file that has drifted."""

from __future__ import annotations

from pathlib import Path

from data_platform_core.errors import GeneratedFileError
from data_platform_core.paths import REPOSITORY_ROOT
from monitoring_dashboards import kafka_cluster, pipeline_health, runbooks, spike_and_lag, warehouse
from monitoring_dashboards.board import Board, to_json

DASHBOARDS_DIR: Path = REPOSITORY_ROOT / "home-server-infra" / "monitoring" / "dashboards"


def boards() -> list[Board]:
    """Every dashboard."""
    return [spike_and_lag.BOARD, pipeline_health.BOARD, kafka_cluster.BOARD, warehouse.BOARD, runbooks.board()]


def generated_files() -> dict[Path, str]:
    """The required text of each file."""
    return {DASHBOARDS_DIR / f"{board.name}.json": to_json(board) for board in boards()}


def drifted() -> list[Path]:
    """The files that differ, are missing, or have no dashboard."""
    wanted = generated_files()
    strangers = sorted(set(DASHBOARDS_DIR.glob("*.json")) - set(wanted))
    return [path for path, text in wanted.items() if not path.is_file() or path.read_text("utf-8") != text] + strangers


def write() -> list[Path]:
    """Write the files that differ, remove those without a dashboard; returns the changed files."""
    DASHBOARDS_DIR.mkdir(exist_ok=True)
    wanted, changed = generated_files(), drifted()
    for path in changed:
        if path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return changed


def check() -> None:
    """Raises GeneratedFileError naming the first file that differs."""
    for path in drifted():
        raise GeneratedFileError(
            f"{path.relative_to(REPOSITORY_ROOT)} is not what its code, the alert rules or the runbooks say; "
            "run `make generate`"
        )
