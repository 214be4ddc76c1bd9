"""Violations as alerts of Alertmanager, and lag as Prometheus reports it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from http_answers import answering
from moments import utc
from service_levels import daily, definition, realtime

from data_platform_core.errors import ConfigurationError, ServiceError, UnreachableError
from data_platform_core.governance.alerts import LASTS, alerts, post
from data_platform_core.governance.check import CheckError, Sources
from data_platform_core.governance.definitions import Channel
from data_platform_core.governance.lag import processed_until
from data_platform_core.governance.pipelines import known_pipelines
from data_platform_core.governance.repository import Notice, Repository
from data_platform_core.naming import names
from data_platform_core.topology import Endpoint

pytestmark = pytest.mark.unit

NOW = utc("2026-03-01 12:00")
NOBODY = Endpoint(host="127.0.0.1", port=9)


@pytest.fixture(autouse=True)
def proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's proxy, which is not for our own services."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def notice(**changes: Any) -> Notice:
    values = {
        "definition": definition(channel=Channel.SLACK),
        "is_open": True,
        "escalated": False,
        "was_escalated": False,
        "since": utc("2026-03-01 10:05"),
        "intervals": 2,
        "unnotified": (7,),
        "unresolved": (),
    }
    return Notice(**values | changes)


def ends(found: list[dict[str, Any]]) -> dict[str, timedelta]:
    """By alert, the time from now until it ends."""
    return {each["labels"]["alertname"]: datetime.fromisoformat(each["endsAt"]) - NOW for each in found}


def test_open_violations_of_a_definition_are_one_alert_on_its_channel() -> None:
    (found,) = alerts(notice(), "test", NOW)
    assert found["labels"] == {
        "alertname": "SlaViolated",
        "definition": "load-warehouse/hourly",
        "pipeline": "load-warehouse",
        "owner": "crm-platform",
        "channel": "slack",
        "severity": "warning",
        "sla": "true",
        "environment": "test",
    }
    assert found["annotations"]["description"] == (
        "Promised 5 min after each hour; late since 2026-03-01 10:05 UTC, 2 intervals are missing. Owner: crm-platform."
    )
    assert datetime.fromisoformat(found["startsAt"]) == utc("2026-03-01 10:05")


def test_an_alert_lasts_until_its_violations_are_closed() -> None:
    assert ends(alerts(notice(), "test", NOW)) == {"SlaViolated": LASTS}
    assert ends(alerts(notice(is_open=False), "test", NOW)) == {"SlaViolated": timedelta(0)}


def test_an_escalation_is_an_alert_of_its_own_for_every_channel() -> None:
    found = alerts(notice(escalated=True, was_escalated=True), "test", NOW)
    assert ends(found) == {"SlaViolated": LASTS, "SlaEscalated": LASTS}
    assert (found[1]["labels"]["channel"], found[1]["labels"]["severity"]) == ("all", "critical")


def test_an_escalation_ends_with_its_violation_while_another_one_is_open() -> None:
    assert ends(alerts(notice(was_escalated=True), "test", NOW)) == {
        "SlaViolated": LASTS,
        "SlaEscalated": timedelta(0),
    }


def test_labels_do_not_change_while_a_violation_is_open() -> None:
    """Alertmanager recognises an alert by them: another value would be another message."""
    before, after = alerts(notice(), "test", NOW), alerts(notice(intervals=9), "test", NOW + timedelta(hours=3))
    assert [each["labels"] for each in before] == [each["labels"] for each in after]


def test_alerts_are_posted_to_alertmanagers_api() -> None:
    with answering("") as alertmanager:
        post(alertmanager.endpoint, alerts(notice(), "test", NOW))
    ((path, body),) = alertmanager.received
    assert (path, body[0]["labels"]["alertname"]) == ("/api/v2/alerts", "SlaViolated")


def test_an_alertmanager_that_refuses_or_is_silent_is_one_line() -> None:
    with (
        answering("bad label", 400) as other,
        pytest.raises(ServiceError, match=r"refuses alerts \(400: 'bad label'\)"),
    ):
        post(other.endpoint, [])
    with pytest.raises(
        UnreachableError, match=r"Alertmanager at 127\.0\.0\.1:9 does not answer .* the next check"
    ) as lost:
        post(NOBODY, [])
    assert "\n" not in str(lost.value)


def test_lag_is_a_moment_by_entity() -> None:
    series = [{"metric": {"entity": "orders"}, "value": [1772359200, "1772359140.5"]}]
    with answering(json.dumps({"data": {"result": series}})) as prometheus:
        assert processed_until(prometheus.endpoint) == {"orders": datetime(2026, 3, 1, 9, 59, 0, 500_000, UTC)}
    assert prometheus.received[0][0].startswith("/api/v1/query?query=max")


@pytest.mark.parametrize("body", ["<html>", "{}", '{"data": {"result": [{"metric": {}, "value": []}]}}', "[]"])
def test_an_answer_that_is_no_series_is_one_line(body: str) -> None:
    with answering(body) as other, pytest.raises(ServiceError, match="gives no series; is another server"):
        processed_until(other.endpoint)


def test_a_prometheus_that_is_silent_is_one_line() -> None:
    with pytest.raises(UnreachableError, match=r"Prometheus at 127\.0\.0\.1:9 does not answer"):
        processed_until(NOBODY)


def test_a_service_that_is_silent_is_asked_once_for_all_rows() -> None:
    asked = []

    def silent() -> dict[str, datetime]:
        asked.append(True)
        raise UnreachableError("Prometheus", "Prometheus does not answer")

    pipelines = known_pipelines([], [names("orders"), names("events")])
    sources = Sources(cast("Repository", None), pipelines, silent)
    for query in ("ingest_orders", "ingest_events"):
        with pytest.raises(UnreachableError):
            sources.observed(realtime(5, query), NOW)
    assert asked == [True]


def test_problems_are_a_line_each_and_the_gravest_is_the_exit_code() -> None:
    row, service = ConfigurationError("SLA a/daily: wrong"), ServiceError("PostgreSQL is away")
    assert CheckError([row]).exit_code == 2
    assert (CheckError([row, service]).exit_code, CheckError([row, service]).lines) == (3, [str(row), str(service)])


@pytest.mark.parametrize(
    ("promised", "words"),
    [
        (definition(), "5 min after each hour"),
        (daily(540), "by 09:00 Europe/Berlin"),
        (daily(1440, "UTC"), "by 24:00 UTC"),
        (realtime(60), "never older than 60 min"),
    ],
)
def test_a_promise_is_told_in_words(promised: Any, words: str) -> None:
    assert promised.promise == words
