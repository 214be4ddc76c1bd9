"""The driver's Prometheus metrics, and the address that serves them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import numpy as np
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from data_platform_core.errors import ServiceError
from data_platform_core.settings import Settings
from data_platform_core.streaming.observe.report import Seconds

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

LAG = Gauge("crm_streaming_lag_records", "Records in the topic that no batch has committed", ["entity", "partition"])
LAG_SECONDS = Gauge("crm_streaming_lag_seconds", "Age of the oldest waiting record", ["entity", "partition"])
PARTITIONS = Gauge("crm_streaming_partitions", "Partitions of the topic that the query reads", ["entity"])
BATCH_SECONDS = Gauge("crm_streaming_batch_seconds", "Duration of the last batch", ["entity"])
INPUT_RATE = Gauge("crm_streaming_input_records_per_second", "Rate into the last batch", ["entity"])
PROCESSED_RATE = Gauge("crm_streaming_processed_records_per_second", "Rate through the last batch", ["entity"])
RECORDS = Counter("crm_streaming_records_total", "Committed records by outcome", ["entity", "kind"])
READY = Gauge("crm_streaming_ready", "1 while every query runs")
WAITING = Gauge("crm_streaming_waiting", "1 while the driver waits for this service to answer", ["for"])
STATE_KEYS = Gauge("crm_streaming_state_keys", "Keys in the index that finds duplicates", ["entity"])
STATE_BYTES = Gauge("crm_streaming_state_bytes", "Bytes of those keys", ["entity"])
RECALL_SECONDS = Gauge("crm_streaming_recall_seconds", "Seconds spent reading these keys back", ["entity"])
EXECUTORS = Gauge("crm_streaming_executors", "Executors that run tasks; 1 when the driver itself runs them")
TASK_SLOTS = Gauge("crm_streaming_task_slots", "Tasks that can run at a time")
TABLE_FILES = Gauge("crm_streaming_table_files", "Data files of the table at the last check", ["entity", "layer"])
COMPACTED = Counter("crm_streaming_compacted_files_total", "Small files that were merged", ["entity", "layer"])
PHASE_SECONDS = Histogram(
    "crm_streaming_batch_phase_seconds",
    "Seconds of a batch by phase",
    ["entity", "phase"],
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)

#: Upper bounds in seconds: fine around the service level, coarse beyond it.
LATENCY_BOUNDS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 30, 60, 120, 300, 600)


class LatencyHistogram(Collector):
    """Histogram by entity: seconds from `produced_ts` to the commit in silver, per record.

    A batch's records are counted at once (numpy: 100,000 records take about 5 ms); the client library's own histogram
    accepts one value per call.
    """

    _NAME = "crm_streaming_latency_seconds"

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        self._sums: dict[str, float] = {}
        if registry is not None:
            registry.register(self)

    def observe(self, entity: str, waits: Seconds) -> None:
        """Count a batch's records. Negative latencies (our clock is behind the producer's) count as zero."""
        seconds = np.maximum(waits, 0.0)
        # A bucket includes values equal to its bound, as Prometheus requires.
        places = np.searchsorted(LATENCY_BOUNDS, seconds, side="left")
        counts = np.bincount(places, minlength=len(LATENCY_BOUNDS) + 1).astype(np.int64)
        with self._lock:
            self._counts[entity] = self._counts.get(entity, 0) + counts
            self._sums[entity] = self._sums.get(entity, 0.0) + float(seconds.sum())

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The histogram of each entity, for a scrape."""
        family = HistogramMetricFamily(self._NAME, "From produced_ts to the commit in silver", labels=["entity"])
        bounds = [*(str(float(bound)) for bound in LATENCY_BOUNDS), "+Inf"]
        with self._lock:
            for entity, counts in self._counts.items():
                buckets = list(zip(bounds, np.cumsum(counts).tolist(), strict=True))
                family.add_metric([entity], buckets, self._sums[entity])
        yield family


LATENCY = LatencyHistogram(REGISTRY)


#: Returns the problem in a few words; None if there is none.
Check = Callable[[], str | None]


def _nothing_wrong() -> str | None:
    return None


def refuse_address_in_use(settings: Settings) -> None:
    """Raises ServiceError when the metrics address can't be bound."""
    metrics = settings.metrics
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((metrics.host, metrics.port))
        except OSError as error:
            raise ServiceError(
                f"metrics address {metrics.host}:{metrics.port} can't be bound ({error.strerror}); "
                "stop the process that listens there, or set CRM_METRICS__PORT to another port"
            ) from None


def serve_metrics(settings: Settings, not_alive: Check = _nothing_wrong, not_ready: Check = _nothing_wrong) -> None:
    """Serve metrics, `/healthz` and `/readyz` on the topology's address; port 0 disables them.

    `/healthz` is 503 with the reason while `not_alive` returns one (restart me), `/readyz` while `not_ready` does.
    """
    if not settings.metrics.port:
        return
    metrics, checks = make_wsgi_app(), {"/healthz": not_alive, "/readyz": not_ready}

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        check = checks.get(environ["PATH_INFO"])
        if check is None:
            return metrics(environ, start_response)
        problem = check()
        status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
        start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
        return [(problem or "ok").encode() + b"\n"]

    address = settings.metrics
    server = make_server(address.host, address.port, answer, _Server, _Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Suppress the access log: no line per scrape."""
