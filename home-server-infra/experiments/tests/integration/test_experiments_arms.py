"""The spike experiment as a user starts it: one short arm with every remedy, down to its report.

It runs before the dashboards' tests, whose stack and driver would run at the same time.
"""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import pytest

from data_platform_core.jobs import program_path

pytestmark = [pytest.mark.experiments, pytest.mark.timeout(900)]


def spike(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program_path("crm-experiment"), "spike", *options], capture_output=True, text=True, check=False, timeout=870
    )


def test_fewer_partitions_are_refused_before_anything_starts(tmp_path: Path) -> None:
    done = spike("--partitions", "2", "--out", str(tmp_path / "never"))
    assert done.returncode == 2
    assert "partitions can only be added" in done.stderr
    assert not (tmp_path / "never").exists()


def test_a_spike_is_drained_by_executors_and_new_partitions_without_losing_a_record(tmp_path: Path) -> None:
    # 1,200/s of traffic is more than half of the capacity of three tasks: the lag is small, each remedy is at work.
    done = spike(
        "--arms", "all", "--hold", "30", "--rate", "1200", "--baseline", "10", "--ramp", "5", "--out", str(tmp_path)
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = (tmp_path / "report.md").read_text()
    assert "A1 PASS A2 PASS A3 PASS A4 PASS A5 PASS A6 PASS A7 PASS A8 PASS" in report
    with (tmp_path / "samples-all.csv").open() as file:
        samples = list(csv.DictReader(file))
    assert {"baseline", "hold", "after"} <= {sample["phase"] for sample in samples}
    assert samples[0]["partitions"] == "3"
    assert samples[-1]["partitions"] == "12"
    assert samples[-1]["lag"] == "0"
    assert (tmp_path / "report.html").read_text().count("<svg") == len(list(tmp_path.glob("*.svg")))
