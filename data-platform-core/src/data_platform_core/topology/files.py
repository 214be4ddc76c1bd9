"""Reads a topology's file: what it extends, the hosts that it names, and its ports' offset are resolved here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from data_platform_core.errors import ConfigurationError
from data_platform_core.paths import TOPOLOGY_DIR, environment_folder, require_folder
from data_platform_core.topology.environment import Topology
from data_platform_core.topology.hosts import resolve_hosts
from data_platform_core.yaml_files import merged

#: Keys that no file may set, and where their values come from.
_NOT_IN_FILES = {"environment": "is the file's name", "data_path": "is below the state folder, CRM_STATE"}


def load_topology(environment: str, folder: Path = TOPOLOGY_DIR) -> Topology:
    """Read and check `<folder>/<environment>.yaml`.

    Raises ConfigurationError naming the file and the key.
    """
    raw = _read_layers(environment, folder)
    offset = raw.pop("port_offset", 0)
    if not isinstance(offset, int):
        raise ConfigurationError(f"topology {environment}: port_offset is {offset!r}, give a whole number")
    raw = resolve_hosts(raw, str(folder / f"{environment}.yaml"))
    raw |= {"environment": environment, "data_path": environment_folder(environment)}
    try:
        return Topology.model_validate(_shift_ports(raw, offset))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise ConfigurationError(f"topology {folder / f'{environment}.yaml'}: {key}: {first['msg']}") from None


def _read_layers(environment: str, folder: Path) -> dict[str, Any]:
    path = require_folder(folder, "topologies") / f"{environment}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise ConfigurationError(f"topology {path} does not exist; known environments: {known}")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"topology {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigurationError(f"topology {path} must be a mapping of keys, found {type(raw).__name__}")
    for key, decided in _NOT_IN_FILES.items():
        if key in raw:
            raise ConfigurationError(f"topology {path}: {key} {decided}; remove the key")
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    return merged(_read_layers(parent, folder), raw)


def _shift_ports(node: Any, offset: int) -> Any:
    if isinstance(node, dict):
        return {
            key: value + offset
            if isinstance(value, int) and (key == "port" or key.endswith("_port"))
            else _shift_ports(value, offset)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_shift_ports(item, offset) for item in node]
    return node
