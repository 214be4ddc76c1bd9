"""One pipeline for all end-to-end tests; the streaming driver runs under the stack's supervisor."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from minio import Minio

from data_platform_core.settings import load_settings
from data_platform_core.topology import Topology

sys.path.insert(0, str(Path(__file__).parent))

from pipeline import Pipeline


@pytest.fixture(scope="session")
def pipeline(stack: Topology) -> Iterator[Pipeline]:
    running = Pipeline(stack.environment)
    running.start_streaming()
    yield running
    running.stop_streaming()


@pytest.fixture
def store(stack: Topology) -> Minio:
    """The object store with the streaming account: it may do anything in the lake bucket."""
    settings = load_settings("streaming", stack.environment).object_store
    return Minio(
        settings.url.removeprefix("http://"),
        settings.access_key.get_secret_value(),
        settings.secret_key.get_secret_value(),
        secure=False,
    )
