"""When a driver hangs and when it does not, and that a signal ends it in every phase."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping

import psutil
import pytest

from data_platform_core.errors import ServiceError
from data_platform_core.streaming.observe.watchdog import Signs, Watchdog, hang
from data_platform_core.waiting import ask_until

pytestmark = pytest.mark.unit

PATIENCE = 100.0


def streaming(**signs: object) -> Signs:
    return Signs(**{"doing": None, "advanced_at": 0.0, "answered_at": 1_000.0, **signs})  # type: ignore[arg-type]


def test_a_start_that_advances_is_no_hang_even_if_it_is_long() -> None:
    assert hang(Signs("reading", advanced_at=950.0, answered_at=0.0), 1_000.0, PATIENCE) is None


def test_a_start_without_progress_is_one_and_names_its_part() -> None:
    reason = hang(Signs("reading the index back", advanced_at=850.0, answered_at=0.0), 1_000.0, PATIENCE)
    assert reason == "no progress for 150 s while reading the index back"


def test_an_idle_driver_whose_jvm_answers_is_well() -> None:
    assert hang(streaming(), 1_050.0, PATIENCE) is None


def test_a_jvm_that_answers_nothing_is_a_hang() -> None:
    reason = hang(streaming(answered_at=800.0), 1_000.0, PATIENCE)
    assert reason == "Spark's JVM has answered nothing for 200 s"


def test_records_that_wait_without_a_batch_are_a_hang_of_that_entity() -> None:
    signs = streaming(waiting={"orders": 980.0, "events": 890.0})
    assert hang(signs, 1_000.0, PATIENCE) == "records of events wait and no batch has ended for 110 s"
    assert hang(signs, 989.0, PATIENCE) is None


def test_a_known_wait_is_no_silence_of_the_jvm() -> None:
    assert hang(streaming(answered_at=800.0, advanced_at=990.0), 1_000.0, PATIENCE) is None


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr("data_platform_core.streaming.observe.watchdog.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    ends: list[bool] = []
    monkeypatch.setattr("data_platform_core.streaming.observe.watchdog.end_now", lambda: ends.append(True))
    return ends


def watched(lag: Mapping[str, int] | None) -> tuple[Watchdog, dict[str, Mapping[str, int] | None]]:
    known: dict[str, Mapping[str, int] | None] = {"lag": lag}
    watchdog = Watchdog(PATIENCE, lambda: known["lag"])
    watchdog.streaming()
    return watchdog, known


def later(watchdog: Watchdog, clock: Clock, seconds: float) -> None:
    """The JVM answers throughout, and the watchdog checks each second."""
    for _second in range(int(seconds)):
        clock.now += 1
        watchdog.answered()
        watchdog._check(clock.now)


def test_a_driver_that_ends_batches_lives(clock: Clock, ended: list[bool]) -> None:
    watchdog, _known = watched({"events": 5})
    for _batch in range(5):
        later(watchdog, clock, 90)
        watchdog.batch_ended("events")
    assert not ended


def test_a_driver_whose_records_wait_too_long_is_ended(clock: Clock, ended: list[bool]) -> None:
    watchdog, _known = watched({"events": 5, "orders": 1})
    later(watchdog, clock, 90)
    watchdog.batch_ended("orders")
    assert not ended
    later(watchdog, clock, 15)
    assert ended
    assert watchdog.not_alive() is not None
    assert watchdog.not_ready() == watchdog.not_alive()


def test_waiting_begins_with_the_first_record_that_waits(clock: Clock, ended: list[bool]) -> None:
    watchdog, known = watched({"events": 0})
    later(watchdog, clock, 500)
    known["lag"] = {"events": 1}
    later(watchdog, clock, 90)
    assert not ended


def test_while_kafka_does_not_answer_nothing_is_judged_by_lag(clock: Clock, ended: list[bool]) -> None:
    watchdog, known = watched({"events": 5})
    later(watchdog, clock, 90)
    known["lag"] = None
    later(watchdog, clock, 500)
    assert not ended


def test_an_outage_that_the_driver_waits_for_resets_the_clocks(clock: Clock, ended: list[bool]) -> None:
    watchdog, _known = watched({"events": 5})
    for _minute in range(10):
        later(watchdog, clock, 60)
        watchdog.beat("waiting for object store")
    assert not ended


def test_while_it_starts_it_is_alive_and_not_ready(clock: Clock) -> None:
    watchdog = Watchdog(PATIENCE, lambda: None)
    clock.now += 10 * PATIENCE  # before its start it waits for services, regardless of how long they are unavailable
    assert watchdog.not_alive() is None
    watchdog.beat("reading")
    assert watchdog.not_alive() is None
    assert watchdog.not_ready() == "starting: reading"
    clock.now += PATIENCE + 1
    assert watchdog.not_alive() == f"no progress for {PATIENCE + 1:.0f} s while reading"


_DEAF = """
import sys, time
from data_platform_core.streaming.stopping import Stopped, Stopping
stopping = Stopping(grace_s=float(sys.argv[2])).on_signals()
try:
    with stopping.interrupts():
        print("ready", flush=True)
        if sys.argv[1] == "start":
            time.sleep(60)
    print("ready", flush=True)
    while sys.argv[1] == "deaf":
        import hashlib
        hashlib.pbkdf2_hmac("sha256", b"", b"", 3_000_000)  # a long call that does not come back to Python
    stopping.wait(60)
except Stopped:
    print("stopped in its start", flush=True)
"""


def signalled(phase: str, grace_s: float) -> tuple[int, str]:
    """Exit code and output of a process that was signalled to stop in a phase."""
    process = subprocess.Popen([sys.executable, "-c", _DEAF, phase, str(grace_s)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    if phase != "start":
        process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=50)
    return process.returncode, out


def test_a_signal_interrupts_the_start() -> None:
    assert signalled("start", 40) == (0, "stopped in its start\n")


def test_a_signal_ends_the_loop() -> None:
    assert signalled("loop", 40) == (0, "")


def test_a_driver_that_does_not_end_is_ended_after_its_grace() -> None:
    code, out = signalled("deaf", 0.5)
    assert code == ServiceError.exit_code
    assert "driver has not ended in time" in out


_FROZEN = """
import os, signal, subprocess, sys, time
import psutil
from data_platform_core.streaming.observe import watchdog as module
from data_platform_core.streaming.observe.watchdog import Watchdog
module._ORDERLY_S = 0.5  # what a driver has to end by itself: here nobody ends it
child = subprocess.Popen(["sleep", "600"])
watchdog = Watchdog(0.5 if sys.argv[1] == "hangs" else 600, lambda: None)
watchdog.jvm(psutil.Process(child.pid))
watchdog.start()
print(child.pid, flush=True)
os.kill(child.pid, signal.SIGSTOP if sys.argv[1] == "hangs" else signal.SIGKILL)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("how", "reason"), [("hangs", "no progress for"), ("is dead", "driver does not end after its JVM")]
)
def test_a_process_that_hangs_or_outlives_its_jvm_ends_with_it(how: str, reason: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FROZEN, how], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == ServiceError.exit_code
    assert reason in done.stdout
    child = int(done.stdout.split()[0])
    assert ask_until(bool, lambda: gone(child), within_s=60, every_s=0.05)  # it was killed, but not yet reaped


def gone(pid: int) -> bool:
    """Whether the process is gone, or a zombie because its parent has not waited for it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
