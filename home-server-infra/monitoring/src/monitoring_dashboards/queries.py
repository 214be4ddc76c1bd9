"""Queries of the two data sources, with the data source as a variable: dashboards contain no address."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

#: Plugin type and template variable of each data source.
PROMETHEUS_TYPE: Final = "prometheus"
PROMETHEUS_VARIABLE: Final = "prometheus"
POSTGRES_TYPE: Final = "grafana-postgresql-datasource"
POSTGRES_VARIABLE: Final = "warehouse"

PROMETHEUS: Final = DataSourceRef(type_val=PROMETHEUS_TYPE, uid=f"${{{PROMETHEUS_VARIABLE}}}")
POSTGRES: Final = DataSourceRef(type_val=POSTGRES_TYPE, uid=f"${{{POSTGRES_VARIABLE}}}")

#: Grafana's own choice of window: never shorter than four scrapes.
WINDOW: Final = "$__rate_interval"
ENTITY: Final = 'entity=~"$entity"'

#: Metrics of the alerts (rules/recording.yaml), for the chosen entities where they have that label.
LAG_BY_ENTITY: Final = f"entity:crm_streaming_lag_records:sum{{{ENTITY}}}"
LAG_SECONDS_BY_ENTITY: Final = f"entity:crm_streaming_lag_seconds:max{{{ENTITY}}}"
COMMITTED_BY_ENTITY: Final = f"entity:crm_streaming_records:rate1m{{{ENTITY}}}"
PRODUCED_BY_ENTITY: Final = f"entity:crm_generator_produced:rate1m{{{ENTITY}}}"
DLQ_SHARE_BY_ENTITY: Final = f"entity:crm_streaming_dlq:ratio5m{{{ENTITY}}}"
LATENCY_BY_ENTITY: Final = f"entity:crm_streaming_latency_seconds:p95_5m{{{ENTITY}}}"
CPU: Final = "instance:node_cpu:ratio1m"
MEMORY: Final = "instance:node_memory:ratio"
DISK: Final = "instance_mountpoint:node_filesystem:ratio"

Query = Builder[Dataquery]


def over_time(expr: str, legend: str = "", *, buckets: bool = False) -> prometheus.Dataquery:
    """PromQL over the dashboard's time range. `buckets`: the series are a histogram's, for a heatmap."""
    query = prometheus.Dataquery().datasource(PROMETHEUS).expr(expr).legend_format(legend or "__auto").range()
    return query.format(PromQueryFormat.HEATMAP) if buckets else query


def now(expr: str, legend: str = "", *, table: bool = False) -> prometheus.Dataquery:
    """PromQL at the end of the time range."""
    query = prometheus.Dataquery().datasource(PROMETHEUS).expr(expr).legend_format(legend or "__auto").instant()
    return query.format(PromQueryFormat.TABLE) if table else query


class _SqlModel(Dataquery):
    """The SDK has no model of this data source; these are the keys its editor saves."""

    def __init__(self, raw_sql: str, result: str) -> None:
        self.ref_id = "A"
        self._raw_sql, self._result = raw_sql, result

    def to_json(self) -> dict[str, object]:
        return {
            "refId": self.ref_id,
            "datasource": POSTGRES,
            "editorMode": "code",
            "format": self._result,
            "rawQuery": True,
            "rawSql": self._raw_sql,
        }


class Sql(Builder[Dataquery]):
    """SQL for the warehouse. `result`: `table`, or `time_series` with a column `time` and, if wanted, `metric`."""

    def __init__(self, raw_sql: str, result: str = "table") -> None:
        self._model = _SqlModel(" ".join(raw_sql.split()), result)

    def build(self) -> Dataquery:
        return self._model


def sql(raw_sql: str) -> Sql:
    """A table."""
    return Sql(raw_sql)


def sql_over_time(raw_sql: str) -> Sql:
    """A time series: columns `time`, values, and text columns as series names; ordered by time."""
    return Sql(raw_sql, "time_series")
