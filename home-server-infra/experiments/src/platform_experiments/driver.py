"""Settings of the streaming driver, by the names that the platform's settings have."""

from __future__ import annotations

from collections.abc import Mapping

_PREFIX = "CRM_STREAMING__"


def driver_settings(values: Mapping[str, object]) -> dict[str, str]:
    """`{"TRIGGER_MS": 500}` as variables of the environment."""
    return {f"{_PREFIX}{name}": str(value) for name, value in values.items()}
