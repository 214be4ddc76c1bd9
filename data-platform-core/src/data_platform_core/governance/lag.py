"""How recent each entity's silver is, from the lag that the stream reports to Prometheus."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx2

from data_platform_core.errors import ServiceError, UnreachableError
from data_platform_core.topology import Endpoint

_METRIC = "entity:crm_streaming_lag_seconds:max"
#: A stream that stopped is found by what it last reported within this time.
_WINDOW = "1h"
#: By entity: the newest moment up to which records had been processed, epoch seconds.
QUERY = f"max by (entity) (max_over_time((timestamp({_METRIC}) - {_METRIC})[{_WINDOW}:30s]))"
_TIMEOUT_S = 10.0


def processed_until(prometheus: Endpoint) -> dict[str, datetime]:
    """By entity, the moment up to which the stream has processed records; without a recent figure it is left out.

    Raises UnreachableError when Prometheus does not answer, ServiceError for an answer that is none.
    """
    address = prometheus.address
    try:
        # The shell's proxy is not for our own services.
        answer = httpx2.get(
            f"http://{address}/api/v1/query", params={"query": QUERY}, timeout=_TIMEOUT_S, trust_env=False
        )
        answer.raise_for_status()
        series: list[dict[str, Any]] = answer.json()["data"]["result"]
        return {each["metric"]["entity"]: _moment(each["value"][1]) for each in series}
    except httpx2.HTTPError as error:
        raise UnreachableError(
            "Prometheus", f"Prometheus at {address} does not answer ({type(error).__name__}); `make status` shows it"
        ) from None
    except (ValueError, OverflowError, KeyError, TypeError, IndexError):
        raise ServiceError(f"Prometheus at {address} gives no series; is another server at that address?") from None


def _moment(seconds: str) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)
