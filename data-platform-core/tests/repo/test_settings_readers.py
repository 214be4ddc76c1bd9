"""Settings by purpose: any Spark job reads the engine's, only the stream reads how it ingests."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from data_platform_core.paths import REPOSITORY_ROOT

pytestmark = pytest.mark.unit

CORE = REPOSITORY_ROOT / "data-platform-core" / "src" / "data_platform_core"
#: Which modules may read a group; no other module may.
READERS = {
    "ingest": {"streaming/driver.py", "streaming/ingest/entity.py", "streaming/ingest/maintenance.py"},
    "experiment": {"streaming/driver.py"},
    "spark": {"lake/session.py", "lake/class_archive.py", "streaming/ingest/entity.py"},
    "metrics": {"streaming/observe/metrics.py"},
}


def readers(group: str, files: dict[str, str]) -> Iterator[str]:
    """Files that read a value of `settings.<group>`."""
    for name, text in files.items():
        if re.search(rf"settings\.{group}\b", text):
            yield name


def core() -> dict[str, str]:
    return {path.relative_to(CORE).as_posix(): path.read_text(encoding="utf-8") for path in CORE.rglob("*.py")}


@pytest.mark.parametrize("group", READERS)
def test_a_group_is_read_by_those_it_is_for(group: str) -> None:
    assert set(readers(group, core())) == READERS[group]


def test_a_batch_job_that_reads_the_streams_tuning_is_found() -> None:
    files = {"batch.py": "x = self._settings.ingest.hang_s", "other.py": "settings.ingested, ingest.hang_s"}
    assert list(readers("ingest", files)) == ["batch.py"]
