"""Every command line: wrong options give one line that points to the help, and exit code 2."""

from __future__ import annotations

import importlib
import sys
import tomllib

import pytest

from data_platform_core.paths import REPOSITORY_ROOT

pytestmark = pytest.mark.unit

PROGRAMS: dict[str, str] = {
    name: target
    for file in REPOSITORY_ROOT.glob("*/pyproject.toml")
    for name, target in tomllib.loads(file.read_text(encoding="utf-8"))["project"]["scripts"].items()
}


def call(
    program: str, *arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one of our programs, run in this process."""
    module, _, function = PROGRAMS[program].partition(":")
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None)  # a script: its name is argv's first
    with pytest.raises(SystemExit) as ended:
        getattr(importlib.import_module(module), function)()
    code = ended.value.code
    assert isinstance(code, int)
    return code, *capsys.readouterr()


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_a_command_that_does_not_exist_is_one_line(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(program, "nonsense", monkeypatch=monkeypatch, capsys=capsys)
    assert (code, out) == (2, "")
    assert err == f"error: No such command 'nonsense'; see `{program} --help`\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("crm reconcile", "error: Missing option '--run-id'; see `crm reconcile --help`"),
        (
            "crm reconcile --run-id r --wait -1",
            "--wait': Input should be greater than or equal to 0 (it is '-1'); see `crm reconcile --help`",
        ),
        ("crm topics plan --bogus", "error: No such option: --bogus; see `crm topics plan --help`"),
        ("crm-generator run", "error: Missing option '--scenario'; see `crm-generator run --help`"),
        (
            "crm-generator flood --count 0",
            "--count': Input should be greater than or equal to 1 (it is '0'); see `crm-generator flood --help`",
        ),
        ("crm-experiment demo --seconds soon", "error: Invalid value for '--seconds': "),
        ("crm-lab fail", "error: Missing argument 'kind'; see `crm-lab fail --help`"),
        ("crm-dashboards generate extra", "error: Got unexpected extra argument(s) (extra)"),
    ],
)
def test_wrong_options_are_one_line(
    arguments: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(*arguments.split(), monkeypatch=monkeypatch, capsys=capsys)
    assert (code, out) == (2, "")
    assert expected in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_without_a_command_the_help_is_shown(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(program, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err) == (2, "")
    assert f"Usage: {program}" in out
