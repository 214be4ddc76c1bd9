"""`make demo`, disturbed: Ctrl-C at each stage, a taken port, a home with spaces, two at once.

In `ENV=bench`, whose data no other test uses: a separate stack.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.topology import load_topology
from embedded_stack import api

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

ENVIRONMENT = "bench"
#: Headings of the demo, by what has begun when they are shown.
STAGES = (
    "1. start Kafka", "2. start the streaming driver", "3. 3 s of normal traffic", "4. wait until the stream",
    "5. load silver", "6. build and test", "7. account for every record",
)  # fmt: skip
#: From Ctrl-C to the end: a command settles for 30 s, a half-started stack stops for 60 s.
GRACE_SECONDS = 120


@pytest.fixture(scope="module", autouse=True)
def bench() -> Iterator[None]:
    api.down(ENVIRONMENT)
    api.clean(ENVIRONMENT)
    yield
    api.down(ENVIRONMENT)
    api.clean(ENVIRONMENT)


def demo(environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """`make demo` as a terminal starts it: a session of its own, whose processes Ctrl-C reaches."""
    return subprocess.Popen(
        ["make", "demo", f"ENV={ENVIRONMENT}", "SECONDS=3"],
        cwd=REPOSITORY_ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def until(process: subprocess.Popen[str], heading: str) -> str:
    """Read its output up to a line that begins with this."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if line.startswith(heading):
            return read
    raise AssertionError(f"the demo ended before {heading!r}: {read}")


def left_of(process: subprocess.Popen[str]) -> list[str]:
    """Processes of the demo's session that still run. The supervisor and its services have sessions of their own."""
    found = []
    for other in psutil.process_iter():
        try:
            if os.getsid(other.pid) == process.pid and other.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(other.cmdline()))
        except (psutil.Error, OSError):
            continue
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_ends_the_demo_at_any_stage_and_leaves_no_process(stage: str) -> None:
    process = demo()
    until(process, stage)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=GRACE_SECONDS)
    assert process.returncode != 0
    assert "Traceback" not in said
    assert f"interrupted; what is up stays up, `make down ENV={ENVIRONMENT}` stops it" in said
    assert left_of(process) == []


def test_the_demo_after_them_works_in_a_home_with_spaces(tmp_path: Path) -> None:
    home = tmp_path / "a home with spaces"
    home.mkdir()
    process = demo({"HOME": str(home)})
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    assert said.count(" PASS") >= 7


def test_a_second_demo_is_refused_in_one_line_and_disturbs_nothing() -> None:
    first = demo()
    until(first, STAGES[2])
    second = demo()
    said, _ = second.communicate(timeout=60)
    assert second.returncode != 0
    (refusal,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert refusal.startswith(f"error: a demo of environment {ENVIRONMENT} runs already (pid ")
    said, _ = first.communicate(timeout=900)
    assert first.returncode == 0, said


def test_a_taken_port_is_named_with_its_owner_in_one_line() -> None:
    api.down(ENVIRONMENT)
    wanted = load_topology(ENVIRONMENT).schema_registry
    with socket.create_server((wanted.host, wanted.port)):
        process = demo()
        said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    (problem,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert problem.startswith(f"error: port {wanted.address}, wanted by registry, is taken by pid {os.getpid()} ")
