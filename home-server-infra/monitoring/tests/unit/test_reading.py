"""Grafana's variables and macros, filled in as Grafana fills them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from monitoring_dashboards.reading import Asked, Range, asked, filled, label_values

pytestmark = pytest.mark.unit

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
HOUR = Range(START, START + timedelta(hours=1), step_s=5, scrape_s=5)


def test_a_rate_looks_back_four_scrapes_or_a_step_and_a_scrape() -> None:
    assert filled("rate(x[$__rate_interval])", HOUR, {}) == "rate(x[20s])"
    wide = Range(START, START + timedelta(days=1), step_s=60, scrape_s=5)
    assert filled("rate(x[$__rate_interval]) [$__interval:$__range]", wide, {}) == "rate(x[65s]) [60s:86400s]"


def test_variables_are_filled_in_each_of_their_spellings_and_no_longer_name_is_torn() -> None:
    given = {"entity": "a|b", "entity_id": "7"}
    assert filled('{e=~"$entity",f=~"${entity}",g="${entity:regex}",h="$entity_id"}', HOUR, given) == (
        '{e=~"a|b",f=~"a|b",g="a|b",h="7"}'
    )


def test_the_time_filter_is_in_utc_for_every_range() -> None:
    seoul = timezone(timedelta(hours=9))
    over = Range(HOUR.start.astimezone(seoul), HOUR.end.astimezone(seoul), 5, 5)
    assert filled("WHERE $__timeFilter(loads.loaded_at) AND a < $__timeTo()", over, {}) == (
        "WHERE loads.loaded_at BETWEEN '2026-11-21T09:00:00.000+00:00' AND '2026-11-21T10:00:00.000+00:00' "
        "AND a < '2026-11-21T10:00:00.000+00:00'"
    )


@pytest.mark.parametrize("text", ['up{job=~"$jobs"}', "rate(x[${window}])", "$__timeGroup(a, 1h)"])
def test_a_variable_without_a_value_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="has no value in"):
        filled(text, HOUR, {"job": "x"})


def test_a_dollar_at_the_end_of_a_regular_expression_is_kept() -> None:
    assert filled('up{job=~"a$"}', HOUR, {}) == 'up{job=~"a$"}'


def test_queries_of_collapsed_rows_variables_and_annotations_are_found(tmp_path: Path) -> None:
    prometheus = {"type": "prometheus", "uid": "${prometheus}"}
    target = {"refId": "B", "datasource": prometheus, "expr": "up", "instant": True}
    board = {
        "panels": [{"title": "row", "panels": [{"title": "inside", "targets": [target]}]}],
        "annotations": {"list": [{"name": "noted", "datasource": prometheus, "expr": "phase == 1"}]},
        "templating": {"list": [{"type": "query", "name": "e", "query": {"query": "label_values(m, e)"}}]},
    }
    path = tmp_path / "trial.json"
    path.write_text(json.dumps(board))
    assert list(asked(path)) == [
        Asked("trial", "inside (B)", "promql", "up", instant=True),
        Asked("trial", "noted", "promql", "phase == 1"),
        Asked("trial", "variable e", "labels", "label_values(m, e)"),
    ]


def test_a_variable_queries_one_label_of_one_metric() -> None:
    assert label_values("label_values(crm_streaming_lag_records, entity)") == ("crm_streaming_lag_records", "entity")
    with pytest.raises(ValueError, match="not a label_values"):
        label_values("query_result(up)")
