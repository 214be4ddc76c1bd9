"""Firing alerts, from Prometheus."""

from __future__ import annotations

from typing import Any

import httpx

from data_platform_core.errors import ServiceError
from data_platform_core.topology import Topology


def is_firing(topology: Topology, alert: str) -> bool:
    """Whether the alert fires, not only is pending."""
    return any(
        found["labels"]["alertname"] == alert and found["state"] == "firing" for found in firing_or_pending(topology)
    )


def firing_or_pending(topology: Topology) -> list[dict[str, Any]]:
    """Alerts from Prometheus' API. Raises ServiceError when it does not answer."""
    address = topology.monitoring.prometheus.address
    try:
        answer = httpx.get(f"http://{address}/api/v1/alerts", timeout=10, trust_env=False)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise ServiceError(f"Prometheus at {address} does not answer ({type(error).__name__}); `make up`") from None
    alerts: list[dict[str, Any]] = answer.json()["data"]["alerts"]
    return alerts
