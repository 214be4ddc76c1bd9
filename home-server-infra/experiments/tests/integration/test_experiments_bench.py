"""The bench works: one small part of it, on its own stack.

`RESTART_KEYS=26000000 make test-experiments PYTEST="-k window"` reads so many keys back.
"""

from __future__ import annotations

import os

import pytest

from platform_experiments.bench import runner
from platform_experiments.bench.load import Load
from platform_experiments.bench.measuring import ENVIRONMENT
from platform_experiments.embedded import EmbeddedRuntime

pytestmark = [pytest.mark.experiments, pytest.mark.timeout(1800)]

RESTART_KEYS = int(os.environ.get("RESTART_KEYS", "200000"))


def test_a_full_window_is_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    """On the bench's own stack: the keys are rows that no load or accounting could read."""
    runner.run(EmbeddedRuntime(ENVIRONMENT), Load(keys=(RESTART_KEYS,)), only=("restart",))
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| ") and "keys" not in line)
    keys = int(row.split("|")[1].replace(",", ""))
    # Rows that leave the window while the driver starts, and those of the traffic before.
    assert RESTART_KEYS * 0.95 <= keys <= RESTART_KEYS + 5_000
