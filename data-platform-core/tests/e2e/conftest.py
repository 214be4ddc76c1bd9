"""One pipeline and one story for all end-to-end tests; the streaming driver runs under the stack's supervisor."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from minio import Minio

from data_platform_core.contracts import Contract
from data_platform_core.settings import load_settings
from data_platform_core.topology import Topology

sys.path.insert(0, str(Path(__file__).parent))

import story
from pipeline import Pipeline

#: The first driver compacts as soon as possible; later ones use the default settings.
EAGER = {"CRM_INGEST__COMPACT_EVERY_S": "2", "CRM_INGEST__COMPACT_MIN_FILES": "4"}


@pytest.fixture(scope="session")
def pipeline(stack: Topology) -> Iterator[Pipeline]:
    running = Pipeline(stack.environment)
    running.start_streaming(EAGER)
    running.end_run()
    yield running
    running.stop_streaming()


@pytest.fixture(scope="session")
def store(stack: Topology) -> Minio:
    """The object store with the streaming account: it may do anything in the lake bucket."""
    settings = load_settings("streaming", stack.environment).object_store
    return Minio(
        settings.url.removeprefix("http://"),
        settings.access_key.get_secret_value(),
        settings.secret_key.get_secret_value(),
        secure=False,
    )


@pytest.fixture(scope="session")
def compacted(pipeline: Pipeline) -> Pipeline:
    """The first chapter: the driver is the one that was started first, so its counters include every record."""
    story.compact(pipeline)
    return pipeline


@pytest.fixture(scope="session")
def imports(compacted: Pipeline, store: Minio, contracts: dict[str, Contract]) -> story.Imports:
    """The second chapter: history, kills, and the import of what landed as files. How the imports ended."""
    story.send_history(compacted, contracts)
    story.kill_driver_twice(compacted, store)
    return story.import_landed(compacted, store)


@pytest.fixture(scope="session")
def loaded(compacted: Pipeline, imports: story.Imports) -> Pipeline:
    """All runs of the story, in the marts by one load and one build on top of the first chapter's."""
    del imports  # requested, so that it runs first
    story.load_and_build(compacted)
    return compacted
