"""The alert drill: real breaches on a running stack, followed to the message and back.

1. A broker is stopped: BrokerDown, by Slack and mail. That partitions lack replicas follows from it: it is not told.
2. Records are sent while no streaming driver runs: StreamingDown, by webhook too, since it breaks a promise.

Each breach must be told once by each of its ways, and its end once. The receivers are the environment's alert sink.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.table import Table

from data_platform_core.commands import command_path
from data_platform_core.errors import ServiceError
from data_platform_core.topology import Topology, load_topology
from embedded_stack import api
from embedded_stack.kafka_nodes import kafka_name
from embedded_stack.layout import Layout
from embedded_stack.monitoring.alerts import is_firing
from embedded_stack.monitoring.config import alertmanager_config, milliseconds, write_alertmanager, write_prometheus
from embedded_stack.monitoring.programs import ALERTMANAGER, PROMETHEUS
from embedded_stack.monitoring.sink import FIRING, RESOLVED, Message, read_messages
from embedded_stack.services import STREAMING
from embedded_stack.supervision import Supervisor

SLACK, EMAIL, WEBHOOK = "slack", "email", "webhook"
#: On top of the waits that the rules ask for; a busy machine of 2 cores needs most of it to start a broker.
PATIENCE_SECONDS = 240.0
_POLL_SECONDS = 0.2
#: Fewer than the 1,000 a minute from which on low throughput would be a fault of its own.
_RECORDS_PER_SECOND = 10

#: Called with one line for the person watching.
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Leg:
    """One breach by one way. Seconds since the breach, or since its cure; `messages` counts what came of each kind."""

    alert: str
    via: str
    firing: float
    delivered: float
    resolved: float
    resolved_delivered: float
    messages: dict[str, int]

    @property
    def once(self) -> bool:
        """Told once, and its end told once."""
        return self.messages == {FIRING: 1, RESOLVED: 1}


def drill_table(legs: list[Leg]) -> Table:
    """A row per breach and way. Seconds."""
    table = Table(title="alert drill: seconds since the breach, and since its cure")
    for column in ("alert", "by", "breach → firing", "→ delivered", "cure → resolved", "→ delivered", "messages"):
        table.add_column(column, justify="left" if column in ("alert", "by", "messages") else "right")
    for leg in legs:
        seconds = (leg.firing, leg.delivered, leg.resolved, leg.resolved_delivered)
        count = f"{leg.messages[FIRING]} firing, {leg.messages[RESOLVED]} resolved"
        table.add_row(leg.alert, leg.via, *(f"{value:.1f}" for value in seconds), count)
    return table


def run(environment: str, scale: float, tell: Tell) -> list[Leg]:
    """Both breaches, one after the other, with every wait of rules and routes times `scale`.

    Raises ServiceError when the stack is not fit for it, or when nothing arrives.
    """
    topology = load_topology(environment)
    layout = Layout(topology)
    _require_quiet(environment, topology, layout)
    broker = topology.kafka.brokers[-1]
    name = kafka_name(broker)
    with _waits(layout, scale):
        legs = _Breach(layout, scale, "BrokerDown", (SLACK, EMAIL), tell).follow(
            f"stop {name}", lambda: api.stop(environment, name), lambda: api.start(environment, name)
        )
        with _driver_stopped(environment), _Traffic(environment) as traffic:
            breach = _Breach(layout, scale, "StreamingDown", (WEBHOOK, SLACK, EMAIL), tell)
            legs += breach.follow("send records while no driver runs", traffic.begin, traffic.end)
    return legs


@contextmanager
def _waits(layout: Layout, scale: float) -> Iterator[None]:
    """Rules and routes with other waits inside the block."""
    _apply_waits(layout, scale)
    try:
        yield
    finally:
        _apply_waits(layout, 1)


def _apply_waits(layout: Layout, scale: float) -> None:
    supervisor = Supervisor(layout)
    if write_prometheus(layout, scale):
        supervisor.reload(PROMETHEUS)
    if write_alertmanager(layout, scale):
        supervisor.reload(ALERTMANAGER)


def silenced(environment: str, since: float, alert: str) -> bool:
    """Whether no message since `since` (epoch seconds) named the alert."""
    layout = Layout(load_topology(environment))
    return not any(alert in message.text for message in read_messages(layout.alerts) if message.at >= since)


class _Breach:
    """Follows one alert from its cause to the last message."""

    def __init__(self, layout: Layout, scale: float, alert: str, ways: tuple[str, ...], tell: Tell) -> None:
        self._topology = layout.topology
        self._layout = layout
        self._scale = scale
        self._alert = alert
        self._ways = ways
        self._tell = tell

    def follow(self, what: str, breach: Callable[[], object], cure: Callable[[], object]) -> list[Leg]:
        began = time.time()
        self._tell(f"{what}: {self._alert} is due by {', '.join(self._ways)}")
        breach()
        try:
            firing = self._wait("fires", lambda: is_firing(self._topology, self._alert)) - began
            self._tell(f"{self._alert} fires after {firing:.1f} s")
            delivered = self._wait_messages(began, FIRING)
            for way, at in delivered.items():
                self._tell(f"{way} has it after {at - began:.1f} s")
        finally:
            cured = time.time()
            cure()
        resolved = self._wait("ends", lambda: not is_firing(self._topology, self._alert)) - cured
        self._tell(f"{self._alert} ends {resolved:.1f} s after the cure")
        ended = self._wait_messages(began, RESOLVED)
        # A second message would come with the group's next interval.
        time.sleep(2 * _group_interval(self._layout, self._scale))
        counts = self._counts(began)
        return [
            Leg(self._alert, way, firing, delivered[way] - began, resolved, ended[way] - cured, counts[way])
            for way in self._ways
        ]

    def _messages(self, since: float) -> Iterator[Message]:
        return (
            message
            for message in read_messages(self._layout.alerts)
            if message.at >= since and self._alert in message.text
        )

    def _counts(self, since: float) -> dict[str, dict[str, int]]:
        counts = {way: {FIRING: 0, RESOLVED: 0} for way in self._ways}
        for message in self._messages(since):
            of_way = counts.setdefault(message.via, {FIRING: 0, RESOLVED: 0})
            of_way[message.status] = of_way.get(message.status, 0) + 1
        return counts

    def _wait_messages(self, since: float, status: str) -> dict[str, float]:
        """When each way's first message of this status arrived, in epoch seconds."""

        def first() -> dict[str, float]:
            found: dict[str, float] = {}
            for message in self._messages(since):
                if message.status == status:
                    found.setdefault(message.via, message.at)
            return found

        self._wait(f"is told as {status} by {', '.join(self._ways)}", lambda: set(self._ways) <= set(first()))
        return first()

    def _wait(self, what: str, holds: Callable[[], bool]) -> float:
        """Epoch seconds at which it held."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"alert {self._alert}: waited {PATIENCE_SECONDS:.0f} s in vain until it {what}; "
                    f"see http://{self._topology.monitoring.prometheus.address}/alerts and {self._layout.alerts}"
                )
            time.sleep(_POLL_SECONDS)
        return time.time()


class _Traffic:
    """A generator in the background."""

    def __init__(self, environment: str) -> None:
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Traffic:
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def begin(self) -> None:
        run_id = f"drill-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        command = [command_path("crm-generator"), "normal", "--env", self._environment]
        command += ["--run-id", run_id, "--rate", str(_RECORDS_PER_SECOND), "--flat"]
        command += ["--duration", str(int(2 * PATIENCE_SECONDS))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(PATIENCE_SECONDS)


@contextmanager
def _driver_stopped(environment: str) -> Iterator[None]:
    """No streaming driver inside the block; one that ran before runs again afterwards."""
    ran = any(row.pid for row in api.status(environment) if row.name == STREAMING)
    if ran:
        api.stop(environment, STREAMING)
    try:
        yield
    finally:
        if ran:
            api.start(environment, STREAMING)


def _require_quiet(environment: str, topology: Topology, layout: Layout) -> None:
    for row in api.status(environment):
        if row.problem:
            raise ServiceError(
                f"service {row.name} of stack {environment} is not healthy ({row.problem}); the drill needs a stack "
                f"that is up: `make up ENV={environment}`"
            )
    if any(layout.receivers.iterdir()) or topology.monitoring.mail is not None:
        raise ServiceError(
            f"stack {environment} has real receivers ({layout.receivers}); the drill would alarm people: move them away"
        )
    for alert in ("BrokerDown", "StreamingDown"):
        if is_firing(topology, alert):
            raise ServiceError(f"alert {alert} fires already in stack {environment}; cure that first")


def _group_interval(layout: Layout, scale: float) -> float:
    """Seconds that Alertmanager waits before it tells a group's news."""
    interval: str = alertmanager_config(layout, scale)["route"]["group_interval"]
    return milliseconds(interval) / 1000
