"""Keeps what each test took, its fixtures included, in a file beside the tests: `--keep-seconds`.

The file is for reading as a difference: only tests of a second or more, whole seconds, by name, and a test keeps its
number until its time changes. A fixture that many tests share counts for the test that came first. The time of a failed
test is ignored.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "seconds.json"
#: Faster tests get no line.
LEAST = 1
#: A machine's noise: what differs by less, as a share or in seconds, is the same.
SHARE, SLACK = 0.5, 2


def merged(kept: Mapping[str, int], took: Mapping[str, float], known: Iterable[str]) -> dict[str, int]:
    """The file's next content, by test: what `took` says, the rest as it was `kept`, without tests not `known`."""
    found = dict(kept)
    for test, seconds in took.items():
        if test not in kept or abs(seconds - kept[test]) > max(SLACK, SHARE * kept[test]):
            found[test] = round(seconds)
    names = set(known)
    return {test: found[test] for test in sorted(found) if test in names and found[test] >= LEAST}


class Keeper:
    """Adds up a session's reports and writes the file at its end."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._took: dict[str, float] = defaultdict(float)
        self._failed: set[str] = set()
        self._known: list[str] = []

    @pytest.hookimpl(tryfirst=True)  # before tests of other tiers are deselected
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._known = [item.nodeid for item in items]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._took[report.nodeid] += report.duration
        if report.failed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        kept = json.loads(self._file.read_text(encoding="utf-8")) if self._file.is_file() else {}
        # A run of some files has no data on the others' tests.
        whole = session.config.args_source is pytest.Config.ArgsSource.TESTPATHS
        known = self._known if whole else [*kept, *self._known]
        took = {test: seconds for test, seconds in self._took.items() if test not in self._failed}
        text = json.dumps(merged(kept, took, known), indent=1, ensure_ascii=False)
        self._file.write_text(text + "\n", encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep-seconds", action="store_true", help=f"write what each test took to {FILE.name}")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--keep-seconds"):
        config.pluginmanager.register(Keeper(FILE))
