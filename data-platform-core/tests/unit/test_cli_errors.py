"""`crm`: mistakes end in one line on stderr and the exit code of their kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_platform_core import cli
from data_platform_core.errors import AccountingError, ConfigurationError, ServiceError, UserError

pytestmark = pytest.mark.unit


def crm(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("CRM_") and name != "ENV"}
    return subprocess.run(
        [str(Path(sys.executable).parent / "crm"), *arguments],
        capture_output=True, text=True, timeout=60, check=False, env={**own, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(("error", "code"), [(AccountingError, 1), (ConfigurationError, 2), (ServiceError, 3)])
def test_each_kind_of_mistake_has_its_exit_code(
    error: type[UserError], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_options: object) -> None:
        raise error("topic x is missing; create it")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    assert capsys.readouterr() == ("", "error: topic x is missing; create it\n")


def test_help_lists_the_commands_without_loading_spark() -> None:
    done = crm("--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    for command in ("topics", "registry", "warehouse", "stream", "load", "reconcile"):
        assert command in done.stdout
    assert "pyspark" not in done.stderr


def test_an_unknown_environment_is_one_line() -> None:
    done = crm("--env", "moon", "topics", "plan")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: topology ")
    assert done.stderr.count("\n") == 1


def test_an_unknown_variable_is_one_line() -> None:
    done = crm("topics", "plan", CRM_KAFKA__BOOTSTRAP="x:1")
    assert done.returncode == 2
    assert "CRM_KAFKA__BOOTSTRAP is not a setting" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_registry_that_is_not_there_is_named_with_what_to_do() -> None:
    done = crm("registry", "apply", CRM_REGISTRY__URL="http://127.0.0.1:9/x")
    assert done.returncode == 3
    assert done.stderr.startswith("error: registry http://127.0.0.1:9/x: no connection")
    assert "make status" in done.stderr


def test_a_report_into_a_folder_that_does_not_exist_is_refused_before_any_work() -> None:
    done = crm("reconcile", "--run-id", "r", "--json", "/nowhere/report.json")
    assert done.returncode == 2
    assert "/nowhere does not exist" in done.stderr


@pytest.mark.parametrize("command", ["reconcile", "lake import"])
@pytest.mark.parametrize("run_id", ["../../x", "", "a/b"])
def test_a_run_id_that_can_not_be_one_is_refused_before_any_work(
    command: str, run_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["crm", *command.split(), "--run-id", run_id])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: run id {run_id!r}: use 1 to 100 characters of A-Z a-z 0-9 . _ -\n"
