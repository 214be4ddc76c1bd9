"""What tests of the stack and of experiments share: a topology on its own ports, in its own folder."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_platform_core.topology import Endpoint, Topology, load_topology
from embedded_stack import api
from embedded_stack.layout import Layout

ENVIRONMENT = "test"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """The test environment's layout, its data in a temporary folder."""
    return Layout(load_topology(ENVIRONMENT).model_copy(update={"data_path": tmp_path / "data"}))


@pytest.fixture
def taken() -> Iterator[Endpoint]:
    """An address on which this process listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield Endpoint(host="127.0.0.1", port=listener.getsockname()[1])


@pytest.fixture(scope="session")
def running_stack() -> Iterator[Topology]:
    """The stack in `ENV=test`, up; it stays up afterwards when it was before (other tests share it)."""
    was_up = any(service.pid for service in api.status(ENVIRONMENT))
    try:
        yield api.up(ENVIRONMENT)
    finally:
        if not was_up:
            api.down(ENVIRONMENT)
