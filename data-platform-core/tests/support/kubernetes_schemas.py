"""Whether Kubernetes accepts manifests: its own kinds always, operators' kinds where their definitions are.

`sh home-server-infra/local/setup.sh kubernetes` brings helm, kustomize and definitions; no server is started.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from data_platform_core.paths import INSTALLED_DIR

#: The line that the lab and the role `kubernetes` run.
VERSION = "1.34"
DEFINITIONS = INSTALLED_DIR / "kubernetes"
_HOW = "run `sh home-server-infra/local/setup.sh kubernetes`"
_INT_OR_STRING = {"oneOf": [{"type": "string"}, {"type": "integer"}]}

needs_definitions = pytest.mark.skipif(not DEFINITIONS.is_dir(), reason=f"no definitions of resources; {_HOW}")


def program(name: str) -> str:
    """Path of `helm` or `kustomize`; skips the test where there is none."""
    found = INSTALLED_DIR / "bin" / name
    path = str(found) if found.is_file() else shutil.which(name)
    if path is None:
        pytest.skip(f"no {name}; {_HOW}")
    return path


def kustomized(folder: Path) -> list[dict[str, Any]]:
    """What `kubectl apply -k <folder>` would send."""
    done = subprocess.run([program("kustomize"), "build", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def documents(text: str) -> list[dict[str, Any]]:
    """The objects of a stream of YAML documents."""
    return [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each]


def problems(manifests: Iterable[dict[str, Any]]) -> list[str]:
    """What an API server would refuse, unknown fields too: `kind/name: field: reason`."""
    return [
        f"{each['kind']}/{each['metadata'].get('name', '?')}: {problem}"
        for each in manifests
        for problem in _problems(each)
    ]


def _problems(manifest: dict[str, Any]) -> Iterator[str]:
    definition = _definition(manifest["apiVersion"], manifest["kind"])
    try:
        if definition is None:
            kubernetes_validate.validate(manifest, VERSION, strict=True)
        else:
            # Not `jsonschema.validate`: it would check the definition itself each time, for seconds.
            jsonschema.Draft202012Validator(definition).validate(manifest)
    except jsonschema.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError:
        if DEFINITIONS.is_dir():
            yield f"{manifest['apiVersion']} is no kind of Kubernetes {VERSION}, nor of {DEFINITIONS}"


class _Loader(yaml.CSafeLoader):
    """Reads a bare `=`, which one of Prometheus' lists has, as the text that it is."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _loader, node: node.value)


@lru_cache
def _definition(api_version: str, kind: str) -> dict[str, Any] | None:
    """The schema of an operator's kind; None for one that no definition there has."""
    group, _, version = api_version.partition("/")
    for path in DEFINITIONS.glob(f"*/{group}_{kind.lower()}*s.yaml"):
        definition = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        if definition["spec"]["names"]["kind"] != kind:
            continue
        for each in definition["spec"]["versions"]:
            if each["name"] == version:
                schema: dict[str, Any] = _strict(each["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                return schema
    return None


def _strict(node: Any) -> Any:
    """The schema with unknown fields refused wherever fields are listed, as the API server's strict validation does."""
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string"):
        return _INT_OR_STRING
    found = {key: _strict(value) for key, value in node.items()}
    lists = isinstance(node.get("properties"), dict) and node.get("type") == "object"
    if lists and "additionalProperties" not in node and not node.get("x-kubernetes-preserve-unknown-fields"):
        found["additionalProperties"] = False
    return found
