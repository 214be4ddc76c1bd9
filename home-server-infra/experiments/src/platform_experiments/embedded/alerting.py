"""Alerts of the embedded stack: its Prometheus, its Alertmanager, and the sink that receives their messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from embedded_stack.layout import Layout
from embedded_stack.monitoring import alerts
from embedded_stack.monitoring.config import alertmanager_config, milliseconds, write_alertmanager, write_prometheus
from embedded_stack.monitoring.programs import ALERTMANAGER, PROMETHEUS
from embedded_stack.monitoring.sink import RESOLVED, read_messages
from embedded_stack.supervision import Supervisor
from platform_experiments.runtime import AlertMessage


class EmbeddedAlerting:
    """An `Alerting` by the stack's own files."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    @property
    def place(self) -> str:
        return f"http://{self._layout.topology.monitoring.prometheus.address}/alerts and {self._layout.alerts}"

    def is_firing(self, alert: str) -> bool:
        return alerts.is_firing(self._layout.topology, alert)

    def messages(self) -> list[AlertMessage]:
        return [
            AlertMessage(message.at, message.via, message.status == RESOLVED, message.text)
            for message in read_messages(self._layout.alerts)
        ]

    def real_receivers(self) -> list[str]:
        mail = self._layout.topology.monitoring.mail
        found = sorted(str(path) for path in self._layout.receivers.iterdir())
        return [*found, f"mail to {mail.recipient}"] if mail else found

    @contextmanager
    def waits(self, scale: float) -> Iterator[None]:
        self._apply(scale)
        try:
            yield
        finally:
            self._apply(1)

    def _apply(self, scale: float) -> None:
        supervisor = Supervisor(self._layout)
        if write_prometheus(self._layout, scale):
            supervisor.reload(PROMETHEUS)
        if write_alertmanager(self._layout, scale):
            supervisor.reload(ALERTMANAGER)

    def group_interval_s(self, scale: float) -> float:
        interval: str = alertmanager_config(self._layout, scale)["route"]["group_interval"]
        return milliseconds(interval) / 1000
