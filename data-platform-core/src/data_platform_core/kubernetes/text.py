"""Manifests as text: YAML under a line that says where it is changed."""

from __future__ import annotations

from typing import Any, Final

import yaml

from data_platform_core.yaml_files import PlainDumper

_LINE_WIDTH: Final = 110
#: What every generated file of Kubernetes is made from.
SOURCES: Final = "the catalogue of jobs, the matrix of accounts and home-server-infra/topology"


class _Dumper(PlainDumper):
    """Texts of several lines stand as they are."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def head(sources: str = SOURCES) -> str:
    """The first lines of a generated file."""
    return f"# GENERATED from {sources};\n# change those, then `make generate`.\n"


def manifest(*objects: dict[str, Any]) -> str:
    """The objects as one stream of YAML documents."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=_LINE_WIDTH, allow_unicode=True)


def generated(*objects: dict[str, Any], sources: str = SOURCES) -> str:
    """The text of a generated file that holds `objects`."""
    return head(sources) + manifest(*objects)
