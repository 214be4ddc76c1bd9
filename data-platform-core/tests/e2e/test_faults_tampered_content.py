"""Each alteration alone: the counts and sums of A1 to A7 still hold, A8 names it.

A table that was tampered with and restored can't be loaded incrementally any more.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from alterations import IN_LAKE, IN_LANDING, IN_MARTS, ONE_BY_ONE, Alteration, Tables
from pipeline import Pipeline

pytestmark = [pytest.mark.faults, pytest.mark.last]

RUN = "faults-altered"


@pytest.fixture(scope="module")
def stopped(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    pipeline.generate(RUN, seconds=15, rate=60)
    pipeline.drain()
    pipeline.load_and_build()
    report = pipeline.reconcile(RUN, tmp_path_factory.mktemp("reports") / "before.json")
    assert report["code"] == 0, report["printed"]
    pipeline.stop_streaming()
    return pipeline


@pytest.mark.parametrize("alteration", [*IN_LAKE, *IN_LANDING, *IN_MARTS, *ONE_BY_ONE], ids=str)
def test_altered_content_passes_counts_and_sums_and_is_named_by_a8(
    stopped: Pipeline, tmp_path: Path, alteration: Alteration
) -> None:
    tables = Tables(stopped, RUN)
    with tables.restored():
        alteration.apply(tables)
        report = stopped.reconcile(RUN, tmp_path / "altered.json")
    broken = [equation for equation, found in report["equations"].items() if not found["holds"]]
    assert broken == ["A8"], report["printed"]
    assert alteration.reported in report["printed"]
