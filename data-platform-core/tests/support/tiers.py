"""The order in which tests run: fast tests first, then the stack without a streaming driver, then the pipeline.

A driver that runs beside the integration tests would use one of their cores and ingest all that they send. What is
marked `last` comes after everything else of its tier.
"""

from __future__ import annotations

import pytest

SPARK = "spark"
#: By marker, for what needs no server; the rest goes by its folder, since a tier may hold tests of both.
_MARKERS = ("unit", SPARK)
_FOLDERS = ("integration", "e2e")


def tier(item: pytest.Item) -> int:
    """A test's place in the order, from 0. Raises UsageError for one that has none: no tier would run it."""
    for number, marker in enumerate(_MARKERS):
        if item.get_closest_marker(marker):
            return number
    for number, folder in enumerate(_FOLDERS, start=len(_MARKERS)):
        if folder in item.path.parts:
            return number
    raise pytest.UsageError(
        f"{item.nodeid}: has no marker of {', '.join(_MARKERS)} and is in no folder of {', '.join(_FOLDERS)}; "
        "give it a marker"
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """With several workers (`make check`), one of them has Spark's session: its tests are one group."""
    if item.get_closest_marker(SPARK):
        item.add_marker(pytest.mark.xdist_group(SPARK))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (tier(item), item.get_closest_marker("last") is not None))
