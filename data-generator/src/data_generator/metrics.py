"""Prometheus metrics, read from the ledger's counts at each scrape, at no cost to sending."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from data_generator.status import Observed
from data_platform_core.errors import ServiceError


class RunCollector:
    """The metrics of one run, of all its producers together. Counters by entity, times in seconds."""

    def __init__(self, run: Observed) -> None:
        self._run = run

    def collect(self) -> Iterator[Metric]:
        accounts, status = self._run.counts, self._run.status
        yield _counter("crm_generator_produced", "Records handed to Kafka.", ((a.entity, a.sent) for a in accounts))
        yield _counter("crm_generator_acked", "Records acknowledged.", ((a.entity, a.acked) for a in accounts))
        yield _counter(
            "crm_generator_failed", "Records certainly not written.", ((a.entity, a.failed) for a in accounts)
        )
        yield _counter("crm_generator_unknown", "Records of unknown fate.", ((a.entity, a.unknown) for a in accounts))
        yield GaugeMetricFamily(
            "crm_generator_behind_schedule_seconds", "Age of the oldest record that is due.", value=status.behind_s
        )
        yield GaugeMetricFamily(
            "crm_generator_target_rate", "Records/s of the schedule now.", value=status.target_rate or 0
        )
        yield GaugeMetricFamily(
            "crm_generator_buffered_records", "Records waiting for an acknowledgement.", value=status.buffered
        )
        phases = GaugeMetricFamily(
            "crm_generator_phase", "1 for the scenario's phase that is due now.", labels=["scenario", "phase"]
        )
        for phase in status.stages:
            phases.add_metric([status.scenario, phase], float(phase == status.stage))
        yield phases


def _counter(name: str, text: str, values: Iterable[tuple[str, int]]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=["entity"])
    for entity, value in values:
        family.add_metric([entity], value)
    return family


def serve_metrics(run: Observed, host: str, port: int) -> None:
    """Serve `/metrics` until the process ends. Raises ServiceError when the port is taken."""
    registry = CollectorRegistry()
    registry.register(RunCollector(run))
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        raise ServiceError(
            f"metrics port {host}:{port} can't be used ({error.strerror}); give another --metrics-port, or 0 for none"
        ) from None
