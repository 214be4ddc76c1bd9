"""Violations as alerts of Alertmanager, which routes them, notifies once and repeats nothing.

A definition with open violations is one alert, whichever intervals are missing, so that a night without a load is one
message and not twelve. An escalation is a second alert, critical and for every channel. Alertmanager forgets alerts at
a restart, so each check posts what is open again; it recognises alerts by their labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx2

from data_platform_core.errors import ServiceError, UnreachableError
from data_platform_core.governance.definitions import Channel, Definition
from data_platform_core.governance.repository import Notice
from data_platform_core.topology import Endpoint

VIOLATED: Final = "SlaViolated"
ESCALATED: Final = "SlaEscalated"
#: An alert that no check renews ends after this time, so that it does not outlive the checks for ever.
LASTS: Final = timedelta(days=1)
_RUNBOOK: Final = "docs/ai-context/runbooks/alerts.md"
_TIMEOUT_S = 10.0

Alert = dict[str, Any]


def alerts(notice: Notice, environment: str, now: datetime) -> list[Alert]:
    """The alerts of a definition: firing while a violation is open, otherwise ended now."""
    definition = notice.definition
    later = now + LASTS
    found = [_alert(VIOLATED, "warning", definition.channel, notice, environment, later if notice.is_open else now)]
    if notice.was_escalated:
        ends_at = later if notice.escalated else now
        found.append(_alert(ESCALATED, "critical", Channel.ALL, notice, environment, ends_at))
    return found


def _alert(name: str, severity: str, channel: Channel, notice: Notice, environment: str, ends_at: datetime) -> Alert:
    definition = notice.definition
    return {
        "labels": {
            "alertname": name,
            "definition": definition.name,
            "pipeline": definition.pipeline,
            "owner": definition.owner,
            "channel": channel.value,
            "severity": severity,
            "sla": "true",
            "environment": environment,
        },
        "annotations": {
            "summary": f"{definition.name} is late",
            "description": _description(definition, notice),
            "runbook_url": f"{_RUNBOOK}#{name.lower()}",
        },
        "startsAt": notice.since.astimezone(UTC).isoformat(),
        "endsAt": ends_at.astimezone(UTC).isoformat(),
    }


def _description(definition: Definition, notice: Notice) -> str:
    since = f"{notice.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    number = f", {notice.intervals} intervals are missing" if notice.intervals > 1 else ""
    return f"Promised {definition.promise}; late since {since}{number}. Owner: {definition.owner}."


def post(alertmanager: Endpoint, posted: Sequence[Alert]) -> None:
    """Hand over alerts; repeatable. Raises UnreachableError when Alertmanager is silent, ServiceError if it refuses."""
    address = alertmanager.address
    try:
        answer = httpx2.post(f"http://{address}/api/v2/alerts", json=list(posted), timeout=_TIMEOUT_S, trust_env=False)
        answer.raise_for_status()
    except httpx2.HTTPStatusError as error:
        raise ServiceError(
            f"Alertmanager at {address} refuses alerts ({error.response.status_code}: {error.response.text[:200]!r}); "
            "is another server at that address?"
        ) from None
    except httpx2.HTTPError as error:
        raise UnreachableError(
            "Alertmanager",
            f"Alertmanager at {address} does not answer ({type(error).__name__}); violations are stored, the next "
            "check notifies",
        ) from None
