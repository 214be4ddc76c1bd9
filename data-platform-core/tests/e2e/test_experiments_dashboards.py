"""Every query of every dashboard, as Grafana would send it, against the stack's own Prometheus and PostgreSQL.

A short spike runs meanwhile, so that phases, rates and lag have data.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from pipeline import Pipeline

from data_platform_core.naming import names
from data_platform_core.settings import Settings
from data_platform_core.topology import Topology
from data_platform_core.warehouse.connections import connect
from monitoring_dashboards.generate import DASHBOARDS_DIR
from monitoring_dashboards.reading import Asked, Range, asked, filled, label_values

pytestmark = pytest.mark.experiments

#: Queries that have no data while all is well, and why. They must still be valid for the server.
RIGHTLY_EMPTY = {
    "pipeline-health: Alerts pending and firing (A)": "no alert is pending or firing in a healthy stack",
}
#: The dashboard's variables: everything, or one entity with its topic.
CHOICES = {
    "all": {"entity": ".*", "topic": ".*"},
    "events": {"entity": "events", "topic": names("events").topic},
}
QUERIES = [query for path in sorted(DASHBOARDS_DIR.glob("*.json")) for query in asked(path)]
#: Data that is missing this long after the spike's end will not arrive.
PATIENCE_S = 20


class Grafana:
    """Sends a dashboard's query as Grafana does, and returns whether it has a value."""

    def __init__(self, topology: Topology, reader: Settings) -> None:
        address = topology.monitoring.prometheus.address
        self._prometheus = httpx.Client(base_url=f"http://{address}/api/v1", timeout=20)
        self._warehouse = connect(reader.postgres, "crm-dashboards-test")
        self._warehouse.autocommit = True
        self._scrape_s = topology.monitoring.scrape.servers_seconds
        self.start = datetime.now(UTC)

    def close(self) -> None:
        self._prometheus.close()
        self._warehouse.close()

    def has_data(self, query: Asked, choice: str = "all") -> bool:
        """Raises AssertionError with the server's message when it refuses the query."""
        if query.language == "labels":
            metric, label = label_values(query.text)
            return bool(self._ask(query, f"label/{label}/values", {"match[]": metric}))
        if query.language == "sql":
            # The marts' time range: the last days, not the last minutes.
            over = Range(self.start - timedelta(days=30), datetime.now(UTC), 3600, self._scrape_s)
            return self._rows(query, filled(query.text, over, CHOICES[choice]))
        over = Range(self.start, datetime.now(UTC), 5, self._scrape_s)
        expr = filled(query.text, over, CHOICES[choice])
        if query.instant:
            found = self._ask(query, "query", {"query": expr, "time": over.end.timestamp()})["result"]
            return any(math.isfinite(float(series["value"][1])) for series in found)
        times = {"start": over.start.timestamp(), "end": over.end.timestamp(), "step": over.step_s}
        found = self._ask(query, "query_range", {"query": expr, **times})["result"]
        return any(math.isfinite(float(value)) for series in found for _time, value in series["values"])

    def _ask(self, query: Asked, path: str, parameters: dict[str, Any]) -> Any:
        answer = self._prometheus.get(f"/{path}", params=parameters).json()
        assert answer["status"] == "success", f"{query.name}: {answer.get('error')} in {parameters}"
        return answer["data"]

    def _rows(self, query: Asked, statement: str) -> bool:
        try:
            cursor = self._warehouse.execute(statement.encode())
        except psycopg.Error as error:
            raise AssertionError(f"{query.name}: {error} in {statement}") from None
        numbers = [
            index for index, column in enumerate(cursor.description or ()) if column.name not in ("time", "metric")
        ]
        return any(row[index] is not None for row in cursor for index in numbers)


@pytest.fixture(scope="module")
def grafana(pipeline: Pipeline, stack: Topology, settings: Callable[[str], Settings]) -> Iterator[Grafana]:
    asking = Grafana(stack, settings("reader"))
    yield asking
    asking.close()


@pytest.fixture(scope="module")
def empty(pipeline: Pipeline, grafana: Grafana) -> list[str]:
    """The queries, by variables, that had no data from before a spike until some time after it."""
    wanted = [(query, choice) for query in QUERIES for choice in CHOICES if query.name not in RIGHTLY_EMPTY]
    metrics = [each for each in wanted if each[0].language != "sql"]
    pipeline.start_streaming()  # another test may have stopped it
    with (
        ThreadPoolExecutor(1) as aside,
        pipeline.spiking("e2e-dashboards", baseline=3, ramp=5, hold=30, decay=5, recovery=10, rate=200) as spike,
    ):
        loading = aside.submit(load_something, pipeline)
        deadline = math.inf
        while metrics and time.monotonic() < deadline:
            metrics = [each for each in metrics if not grafana.has_data(*each)]
            if deadline == math.inf and spike.poll() is not None:
                deadline = time.monotonic() + PATIENCE_S
            time.sleep(1)
        loading.result()
        figures = [each for each in wanted if each[0].language == "sql" and not grafana.has_data(*each)]
    return [f"{query.name} [{choice}]" for query, choice in metrics + figures]


def load_something(pipeline: Pipeline) -> None:
    """One load and one build of the marts, once the spike's records have arrived."""
    time.sleep(10)
    pipeline.load_and_build()


def test_there_are_queries() -> None:
    assert {query.language for query in QUERIES} == {"promql", "sql", "labels"}
    assert len({query.dashboard for query in QUERIES}) >= 4


def test_every_query_of_every_dashboard_brings_data_while_a_spike_runs(empty: list[str]) -> None:
    assert empty == []


@pytest.mark.parametrize("name", sorted(RIGHTLY_EMPTY))
def test_a_query_that_is_rightly_empty_is_still_understood(grafana: Grafana, name: str) -> None:
    [query] = [query for query in QUERIES if query.name == name]
    grafana.has_data(query)


def test_a_query_for_a_metric_that_is_not_exported_is_empty(grafana: Grafana) -> None:
    """The test can fail: it distinguishes no data from data."""
    assert not grafana.has_data(Asked("none", "misspelt", "promql", "crm_streaming_lagg_records"))
    assert not grafana.has_data(Asked("none", "no rows", "sql", "SELECT 1 AS value WHERE false"))


def test_a_query_that_the_server_refuses_is_reported_with_its_message(grafana: Grafana) -> None:
    with pytest.raises(AssertionError, match=r"none: torn: .*unclosed"):
        grafana.has_data(Asked("none", "torn", "promql", "sum(up"))
    with pytest.raises(AssertionError, match=r"none: pii: .*permission denied"):
        grafana.has_data(Asked("none", "pii", "sql", "SELECT * FROM raw_crm.profiles"))
