"""Rules of the house that no linter knows."""

from __future__ import annotations

import re
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


def test_the_rooms_are_where_the_map_says() -> None:
    assert [name for name in TOP_LEVEL if not (REPOSITORY_ROOT / name).exists()] == []


def test_no_package_marker_shadows_an_installed_package() -> None:
    folders = ("dbt", "ansible", "data-platform-core/airflow")
    assert [path for folder in folders for path in (REPOSITORY_ROOT / folder).rglob("__init__.py")] == []


def test_no_module_outgrows_its_reader() -> None:
    sources = [path for path in tracked() if path.suffix == ".py" and "/src/" in path.as_posix()]
    assert sources
    assert [path.name for path in sources if len(path.read_text().splitlines()) > MAX_LINES] == []


def test_spark_and_delta_have_one_version_in_both_languages() -> None:
    pom = (REPOSITORY_ROOT / "home-server-infra/local/pom.xml").read_text()
    pins = (REPOSITORY_ROOT / "requirements/core.in").read_text()
    for property_, package in (("spark.version", "pyspark"), ("delta.version", "delta-spark")):
        java = re.search(rf"<{property_}>([^<]+)<", pom)
        python = re.search(rf"^{package}==(\S+)", pins, re.MULTILINE)
        assert java, property_
        assert python, package
        assert java.group(1) == python.group(1)


def test_lock_files_pin_by_hash_and_name_no_address() -> None:
    locks = sorted((REPOSITORY_ROOT / "requirements").glob("*.txt"))
    assert locks
    for lock in locks:
        text = lock.read_text()
        assert "--hash=sha256:" in text, lock.name
        assert "://" not in text, lock.name


def test_nothing_binary_and_no_secret_is_in_git() -> None:
    suffixes = {".jar", ".whl", ".parquet", ".pem", ".key", ".tar", ".gz", ".zip", ".so"}
    assert [path.name for path in tracked() if path.suffix in suffixes] == []
    assert [path.name for path in tracked() if path.suffix == ".env"] == []
