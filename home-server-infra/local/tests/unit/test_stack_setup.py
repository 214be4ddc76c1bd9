"""Setup installs what is missing, once, and reports what it can't do."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from data_platform_core.paths import REPOSITORY_ROOT

pytestmark = pytest.mark.unit

LOCAL = REPOSITORY_ROOT / "home-server-infra" / "local"
REQUIREMENTS = REPOSITORY_ROOT / "requirements"
LOCKS = sorted(set(REQUIREMENTS.glob("*.txt")) - {REQUIREMENTS / "constraints.txt"})


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """bootstrap.py, which runs on the system's Python, as a module that writes to a temporary folder."""
    spec = importlib.util.spec_from_file_location("bootstrap", LOCAL / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bootstrap", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "LOCAL", tmp_path)
    monkeypatch.setattr(module, "LOG", tmp_path / "setup.log")
    (tmp_path / "stamps").mkdir()
    return module


def test_a_step_runs_once_and_again_when_an_input_changes(bootstrap: ModuleType, tmp_path: Path) -> None:
    source, result, runs = tmp_path / "input", tmp_path / "result", []
    source.write_text("1")

    def action() -> None:
        runs.append(source.read_text())
        result.touch()

    step = bootstrap.Step("example", (source,), (result,), action)
    bootstrap.do([step for step in [step] if not step.done()])
    bootstrap.do([step for step in [step] if not step.done()])
    source.write_text("2")
    bootstrap.do([step for step in [step] if not step.done()])
    assert runs == ["1", "2"]


def test_an_unknown_part_of_setup_is_reported(bootstrap: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main(["chef"]) == 3
    assert "chef can't be added by setup; known: ansible" in capsys.readouterr().err


def test_a_step_whose_result_was_deleted_is_not_done(bootstrap: ModuleType, tmp_path: Path) -> None:
    result = tmp_path / "result"
    step = bootstrap.Step("example", ("x",), (result,), result.touch)
    bootstrap.do([step])
    assert step.done()
    result.unlink()
    assert not step.done()


def test_a_step_that_failed_is_not_done_and_shows_the_end_of_its_output(bootstrap: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "result").touch()
    command = ["sh", "-c", "echo no route to the registry; exit 7"]
    step = bootstrap.Step("example", ("x",), (tmp_path / "result",), lambda: bootstrap.run(command))
    with pytest.raises(bootstrap.SetupError, match=r"sh ended with 7(.|\n)*no route to the registry"):
        bootstrap.do([step])
    assert not step.done()


def test_a_folder_takes_its_name_only_when_it_is_complete(bootstrap: ModuleType, tmp_path: Path) -> None:
    final, partial = tmp_path / "jars", tmp_path / "jars.partial"
    final.mkdir()
    (final / "stale.jar").touch()
    partial.mkdir()
    (partial / "new.jar").touch()
    bootstrap.replace(final, partial)
    assert [path.name for path in final.iterdir()] == ["new.jar"]


def run_setup_without_packages(tools: Path, uid: int) -> subprocess.CompletedProcess[str]:
    """setup.sh on a machine that has only a shell's tools and apt-get, as the user `uid`."""
    for name in ("dirname", "sed", "head", "cat", "mkdir", "sh"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    for name, body in {"id": f"echo {uid}", "apt-get": "echo apt-get was called; exit 1"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    script = str(LOCAL / "setup.sh")
    return subprocess.run(["/bin/sh", script], capture_output=True, text=True, env={"PATH": str(tools)}, check=False)


def test_without_root_setup_prints_the_one_command_to_run(tmp_path: Path) -> None:
    done = run_setup_without_packages(tmp_path, uid=1000)
    assert done.returncode == 3
    assert "sudo apt-get update && sudo apt-get install" in done.stderr
    for package in ("python3", "python3-venv", "default-jre-headless", "maven", "postgresql-client"):
        assert package in done.stderr.split()
    assert "apt-get was called" not in done.stdout


def test_root_sees_what_will_be_installed_first(tmp_path: Path) -> None:
    done = run_setup_without_packages(tmp_path, uid=0)
    said, called = done.stdout.index("installing with apt-get:"), done.stdout.index("apt-get was called")
    assert said < called
    assert done.returncode != 0


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_lock_pins_with_hashes_and_names_no_registry(lock: Path) -> None:
    lines = lock.read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith((" ", "#", "--"))]
    assert pinned
    assert all("==" in line and line.endswith("\\") for line in pinned), "each requirement is followed by its hashes"
    assert [line for line in lines if "://" in line] == []


def test_every_lock_has_the_requirements_it_was_made_from() -> None:
    assert {path.stem for path in LOCKS} == {path.stem for path in REQUIREMENTS.glob("*.in")}


def test_java_and_python_halves_of_spark_and_delta_are_the_same_version(bootstrap: ModuleType) -> None:
    lock = (REQUIREMENTS / "core.txt").read_text(encoding="utf-8")
    assert f"pyspark=={bootstrap.pinned('spark')} " in lock
    assert f"delta-spark=={bootstrap.pinned('delta')} " in lock


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may not run PostgreSQL")
def test_what_setup_unpacks_can_be_read_by_postgresqls_own_user() -> None:
    program = REPOSITORY_ROOT / ".local" / "postgres" / "bin" / "postgres"
    assert program.stat().st_mode & 0o005 == 0o005
