"""Mappings as YAML has them: one laid over another, and written as handwritten files look."""

from __future__ import annotations

from typing import Any

import yaml


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`: mappings are joined, everything else is replaced, and a null removes its key."""
    joined = dict(base)
    for key, value in over.items():
        inherited = joined.get(key)
        joined[key] = merged(inherited, value) if isinstance(inherited, dict) and isinstance(value, dict) else value
    return {key: value for key, value in joined.items() if value is not None}


class PlainDumper(yaml.SafeDumper):
    """Repeats equal values, since readers are not expected to know YAML anchors, and indents lists below their key."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """As yamllint and ansible-lint require."""
        super().increase_indent(flow, False)
