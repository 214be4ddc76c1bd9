"""The terminal has our lines; the JVM's output goes to a file, for its whole life."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

#: A child that outlives the context, as the JVM does, and writes to stdout and stderr.
SCRIPT = """
import subprocess, sys
from data_platform_core.lake import terminal
from data_platform_core.settings import load_settings
with terminal.jvm_output_aside(load_settings("batch", "test"), "crm-load"):
    words = "read go; echo WARN from spark >&2; echo out of spark"
    child = subprocess.Popen(["sh", "-c", words], stdin=subprocess.PIPE)
print("a line of ours", file=sys.stderr)
child.communicate(b"go\\n")
print("the last of ours", file=sys.stderr)
"""


def state(folder: Path) -> dict[str, str]:
    return {**os.environ, "CRM_STATE": str(folder)}


def test_on_a_terminal_only_our_lines_are_seen(tmp_path: Path) -> None:
    reader, terminal = pty.openpty()
    with os.fdopen(terminal, "wb") as stderr:
        subprocess.run([sys.executable, "-c", SCRIPT], env=state(tmp_path), stderr=stderr, stdout=stderr, check=True)
    seen = os.read(reader, 10_000).decode().splitlines()
    os.close(reader)
    assert seen == ["a line of ours", "the last of ours"]
    assert (tmp_path / "test" / "logs" / "crm-load.log").read_text() == "WARN from spark\nout of spark\n"


def test_in_a_log_everything_stays_together(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=state(tmp_path), capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines() == ["a line of ours", "WARN from spark", "the last of ours"]
    assert not (tmp_path / "test").exists()
