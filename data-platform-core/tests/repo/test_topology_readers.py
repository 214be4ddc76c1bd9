"""Every key of the topology is read: an unread key would be a setting without effect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from data_platform_core import topology
from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.topology import Topology

pytestmark = pytest.mark.unit

#: Reads by the topology's own models do not count.
MODELS = Path(topology.__file__).parent
#: Read as a whole, by `model_dump`, into variables of the same names.
DUMPED = {"Proxmox", "Template", "VirtualMachine"}

#: Read by a method of the topology, which then must have a reader itself.
DERIVED = {"Pods.kafka_port": "pods_listener", "Topology.pods": "pods_listener"}


def models(kind: Any) -> Iterator[type[BaseModel]]:
    """The models inside a field's type, at any depth."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from models(field.annotation)
    for part in get_args(kind):
        yield from models(part)


def unread(keys: set[str], sources: str) -> list[str]:
    """Keys, as `Model.key`, that no line of `sources` reads as an attribute."""
    return sorted(key for key in keys if not re.search(rf"\.{DERIVED.get(key, key.split('.')[1])}\b", sources))


def keys() -> set[str]:
    return {f"{model.__name__}.{name}" for model in models(Topology) for name in model.model_fields}


def sources() -> str:
    folders = ("data-platform-core/src", "data-generator/src", "home-server-infra")
    files = (
        path for folder in folders for path in (REPOSITORY_ROOT / folder).rglob("*.py") if "tests" not in path.parts
    )
    return "\n".join(path.read_text(encoding="utf-8") for path in files if MODELS not in path.parents)


def test_every_key_of_a_topology_has_a_reader() -> None:
    read_one_by_one = {key for key in keys() if key.split(".")[0] not in DUMPED}
    assert unread(read_one_by_one, sources()) == []


def test_a_key_without_a_reader_is_found() -> None:
    assert unread({"Kafka.heap_mb", "Kafka.colour"}, "kafka.heap_mb, kafka.colours") == ["Kafka.colour"]
