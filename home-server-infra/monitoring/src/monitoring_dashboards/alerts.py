"""The levels at which an alert fires, read from the alert rules: a dashboard's red line is the alert's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from data_platform_core.errors import ConfigurationError
from data_platform_core.paths import REPOSITORY_ROOT
from monitoring_dashboards.panels import Levels

RULES_DIR: Final = REPOSITORY_ROOT / "home-server-infra" / "monitoring" / "rules"

#: The rule's condition is the first comparison with a number; what follows narrows when it counts.
_CONDITION = re.compile(r"(?P<operator>[<>])=?\s*(?P<level>\d+(?:\.\d+)?)\b")


def levels(alert: str, folder: Path = RULES_DIR) -> Levels:
    """Warning and critical level of `alert`, by the severity label of its rules.

    Raises ConfigurationError when no rule has that name, or one compares with no number.
    """
    found: dict[str, float] = {}
    below = False
    for rule in _rules(folder):
        if rule.get("alert") != alert:
            continue
        condition = _CONDITION.search(rule["expr"])
        if condition is None:
            raise ConfigurationError(f"alert {alert}: its expression compares with no number: {rule['expr']}")
        found[rule["labels"]["severity"]] = float(condition["level"])
        below = condition["operator"] == "<"
    if not found:
        raise ConfigurationError(f"no rule below {folder} is named {alert}; name the alert whose level the panel shows")
    return Levels(found.get("warning"), found.get("critical"), below)


def recorded(folder: Path = RULES_DIR) -> set[str]:
    """Names of the recording rules: metrics that Prometheus makes itself."""
    return {rule["record"] for rule in _rules(folder) if "record" in rule}


def _rules(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.yaml")):
        for group in _read(path)["groups"]:
            yield from group["rules"]


@cache
def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content
