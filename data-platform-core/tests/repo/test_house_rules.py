"""Rules of this repository that no linter checks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from data_platform_core.paths import REPOSITORY_ROOT

pytestmark = pytest.mark.unit

MAX_LINES = 400
TOP_LEVEL = (
    "home-server-infra", "data-platform-core", "data-generator", "ansible", "helm", "dbt", "docs/ai-context",
    "Makefile", "README.md", "CHANGELOG.md", ".env.example", ".ci/run",
)  # fmt: skip


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY_ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.splitlines() if (path := REPOSITORY_ROOT / name).is_file()]


def test_the_top_level_folders_exist() -> None:
    assert [name for name in TOP_LEVEL if not (REPOSITORY_ROOT / name).exists()] == []


def test_no_package_marker_shadows_an_installed_package() -> None:
    folders = ("dbt", "ansible", "data-platform-core/airflow")
    assert [path for folder in folders for path in (REPOSITORY_ROOT / folder).rglob("__init__.py")] == []


def test_no_module_exceeds_the_line_limit() -> None:
    sources = [path for path in tracked() if path.suffix == ".py" and "/src/" in path.as_posix()]
    assert sources
    assert [path.name for path in sources if len(path.read_text().splitlines()) > MAX_LINES] == []


def test_nothing_binary_and_no_secret_is_in_git() -> None:
    suffixes = {".jar", ".whl", ".parquet", ".pem", ".key", ".tar", ".gz", ".zip", ".so"}
    assert [path.name for path in tracked() if path.suffix in suffixes] == []
    assert [path.name for path in tracked() if path.name.endswith((".env", ".pgpass"))] == []
