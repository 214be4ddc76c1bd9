"""Commands of an experiment: their output, their end, and the CPU of everything they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from data_platform_core.errors import ServiceError
from platform_experiments.embedded import commands
from platform_experiments.embedded.processes import described, family, held_still
from platform_experiments.runtime import Part, Process, cpu_since
from platform_experiments.spike.sampling import CpuMeter

pytestmark = pytest.mark.unit

#: Uses CPU for some seconds of its own clock, not of the wall's.
BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


def python(program: str) -> list[str]:
    return ["python", "-c", program]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_command_gives_its_output_and_sees_the_settings_of_the_run() -> None:
    done = commands.run(python("import os; print(os.environ['CRM_RUN'])"), {"CRM_RUN": "yes"}, check=True)
    assert (done.code, done.output) == (0, "yes\n")
    assert "CRM_RUN" not in os.environ


def test_a_failed_command_is_named_with_the_end_of_its_output() -> None:
    failing = python("raise SystemExit('the disk is full')")
    with pytest.raises(ServiceError, match=r"^`python -c .*` ended with 1: the disk is full$"):
        commands.run(failing, {}, check=True)
    assert commands.run(failing, {}, check=False).code == 1


def test_the_cpu_of_a_child_that_outlives_its_command_counts() -> None:
    child = BURN.format(seconds=0.5)
    leaves_it = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}], stdout=2)"
    alone = commands.run(python(BURN.format(seconds=0.2)), {}, check=True)
    assert alone.cpu_s >= 0.15  # the kernel counts in hundredths
    assert commands.run(python(leaves_it), {}, check=True).cpu_s >= 0.45


def test_a_counting_process_ends_its_command_on_request(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    program = f"import os, pathlib, time; pathlib.Path({str(marker)!r}).write_text(str(os.getpid())); time.sleep(600)"
    counting = [sys.executable, "-m", "platform_experiments.embedded.counting", "1", sys.executable, "-c", program]
    with psutil.Popen(counting) as process:
        wait_for(lambda: marker.is_file() and marker.read_text() != "")
        process.terminate()
        assert process.wait(60) == 128 + 15
    assert not psutil.pid_exists(int(marker.read_text()))


def test_a_job_runs_beside_us_until_it_is_ended(tmp_path: Path) -> None:
    job = commands.Background(python("import time; print('ready', flush=True); time.sleep(600)"), tmp_path / "job.log")
    wait_for(lambda: job.output() == "ready\n")
    assert job.exit_code() is None
    assert job.processes()[0].program.startswith("python")
    with pytest.raises(ServiceError, match=r"did not end in 0\.1 s; see .*job\.log"):
        job.wait(0.1)
    job.end()
    job.end()
    assert job.exit_code() == -15
    assert job.processes() == []


def test_a_process_that_is_held_still_uses_no_cpu(tmp_path: Path) -> None:
    job = commands.Background(python(BURN.format(seconds=600)), tmp_path / "job.log")
    try:
        with job.paused():
            before = job.processes()
            time.sleep(0.3)
            assert cpu_since(before, job.processes()) == 0
        wait_for(lambda: cpu_since(before, job.processes()) > 0)
    finally:
        job.end()


def test_a_process_that_ended_while_held_is_no_error() -> None:
    child = psutil.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with held_still(family(child.pid)):
        child.kill()
        child.wait()


def test_this_process_is_described_with_what_it_uses() -> None:
    (ours,) = described([psutil.Process()])
    assert ours.cpu_s > 0
    assert 0 < ours.memory_mb <= ours.peak_mb * 1.01


def process(identity: str, cpu_s: float) -> Process:
    return Process(identity, "java", cpu_s, 1, 1)


def test_cpu_counts_from_the_first_reading_and_from_the_birth_of_new_children() -> None:
    before = [process("1", 10), process("2", 5)]
    assert cpu_since(before, [process("1", 12), process("2", 5.5), process("3", 4)]) == pytest.approx(6.5)


@pytest.mark.parametrize("now", [[], [process("9", 1)]])
def test_a_main_process_that_ended_meanwhile_is_an_error(now: list[Process]) -> None:
    with pytest.raises(ServiceError, match="java ended while it was measured"):
        cpu_since([process("1", 10)], now)
    with pytest.raises(ServiceError, match="the process ended"):
        cpu_since([], now)


def test_a_meter_keeps_the_cpu_of_executors_that_were_given_back() -> None:
    readings = [[process("a", 1), process("b", 2)], [process("a", 4)], []]
    meter = CpuMeter({Part.EXECUTORS: lambda: readings.pop(0)})
    assert [meter.read() for _ in range(3)] == [
        ({Part.EXECUTORS: 3}, {Part.EXECUTORS: 2}),
        ({Part.EXECUTORS: 6}, {Part.EXECUTORS: 1}),
        ({Part.EXECUTORS: 6}, {Part.EXECUTORS: 0}),
    ]


#: Follows a command, and reports a traceback of its own apart from the command's.
FOLLOWING = """
import signal
import subprocess
import sys
from platform_experiments.embedded.commands import follow
print("begun", flush=True)
try:
    follow(sys.argv[1:])
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("after_s", [0.0, 0.15, 0.6, 1.2])
def test_ctrl_c_ends_a_followed_command_without_a_traceback_while_it_still_starts(after_s: float) -> None:
    command = [sys.executable, "-c", FOLLOWING, "crm", "--env", "local", "dbt", "parse"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (130, "")
