"""The alert drill: real breaches on a running platform, followed to the message and back.

1. A broker is stopped: BrokerDown, by Slack and mail. The missing replicas cause no message.
2. Records are sent while no streaming driver runs: StreamingDown, also by webhook, because it breaks a service level.

Each breach must cause one message by each of its routes, and its end one more. The receivers are the environment's
alert sink.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.table import Table

from data_platform_core.access.names import STREAMING
from data_platform_core.errors import ServiceError
from data_platform_core.jobs import job
from data_platform_core.waiting import ask_until
from platform_experiments.runtime import AlertMessage, Running, Runtime

SLACK, EMAIL, WEBHOOK = "slack", "email", "webhook"
#: In addition to the rules' waits; a busy machine of 2 cores needs most of it to start a broker.
PATIENCE_SECONDS = 240.0
_POLL_SECONDS = 0.2
#: Fewer than the 1,000 a minute from which on low throughput would be a fault of its own.
_RECORDS_PER_SECOND = 10

#: Called with one progress line.
Report = Callable[[str], None]


@dataclass(frozen=True)
class Leg:
    """One breach by one route. Seconds since the breach, or since its cure, and the number of messages of each kind."""

    alert: str
    via: str
    firing: float
    delivered: float
    resolved: float
    resolved_delivered: float
    firing_messages: int
    resolved_messages: int

    @property
    def once(self) -> bool:
        """One message when it began, one when it ended."""
        return (self.firing_messages, self.resolved_messages) == (1, 1)


def drill_table(legs: list[Leg]) -> Table:
    """A row per breach and way. Seconds."""
    table = Table(title="alert drill: seconds since the breach, and since its cure")
    for column in ("alert", "by", "breach → firing", "→ delivered", "cure → resolved", "→ delivered", "messages"):
        table.add_column(column, justify="left" if column in ("alert", "by", "messages") else "right")
    for leg in legs:
        seconds = (leg.firing, leg.delivered, leg.resolved, leg.resolved_delivered)
        count = f"{leg.firing_messages} firing, {leg.resolved_messages} resolved"
        table.add_row(leg.alert, leg.via, *(f"{value:.1f}" for value in seconds), count)
    return table


def run(runtime: Runtime, scale: float, report: Report) -> list[Leg]:
    """Both breaches, one after the other, with every wait of rules and routes times `scale`.

    Raises ServiceError if the platform is not ready for it, or if nothing arrives.
    """
    _require_quiet(runtime)
    broker = runtime.brokers[-1]
    with runtime.alerting.waits(scale):
        legs = _Breach(runtime, scale, "BrokerDown", (SLACK, EMAIL), report).follow(
            f"stop {broker}", lambda: runtime.stop(broker), lambda: runtime.start(broker)
        )
        with _driver_stopped(runtime), _Traffic(runtime) as traffic:
            breach = _Breach(runtime, scale, "StreamingDown", (WEBHOOK, SLACK, EMAIL), report)
            legs += breach.follow("send records while no driver runs", traffic.begin, traffic.end)
    return legs


def silent(runtime: Runtime, since: float, alert: str) -> bool:
    """Whether no message since `since` (epoch seconds) named the alert."""
    return not any(alert in message.text for message in runtime.alerting.messages() if message.at >= since)


class _Breach:
    """Follows one alert from its cause to the last message."""

    def __init__(self, runtime: Runtime, scale: float, alert: str, ways: tuple[str, ...], report: Report) -> None:
        self._alerting = runtime.alerting
        self._scale = scale
        self._alert = alert
        self._ways = ways
        self._report = report

    def follow(self, what: str, breach: Callable[[], object], cure: Callable[[], object]) -> list[Leg]:
        began = time.time()
        self._report(f"{what}: {self._alert} is due by {', '.join(self._ways)}")
        breach()
        try:
            firing = self._wait("fires", lambda: self._alerting.is_firing(self._alert)) - began
            self._report(f"{self._alert} fires after {firing:.1f} s")
            delivered = self._wait_messages(began, resolved=False)
            for way, at in delivered.items():
                self._report(f"{way} has it after {at - began:.1f} s")
        finally:
            cured = time.time()
            cure()
        ended = self._wait("ends", lambda: not self._alerting.is_firing(self._alert)) - cured
        self._report(f"{self._alert} ends {ended:.1f} s after the cure")
        ended_delivered = self._wait_messages(began, resolved=True)
        # A second message would come with the group's next interval.
        time.sleep(2 * self._alerting.group_interval_s(self._scale))
        return [
            Leg(
                self._alert,
                way,
                firing,
                delivered[way] - began,
                ended,
                ended_delivered[way] - cured,
                self._count(began, way, resolved=False),
                self._count(began, way, resolved=True),
            )
            for way in self._ways
        ]

    def _messages(self, since: float, *, resolved: bool) -> Iterator[AlertMessage]:
        return (
            message
            for message in self._alerting.messages()
            if message.at >= since and self._alert in message.text and message.resolved is resolved
        )

    def _count(self, since: float, way: str, *, resolved: bool) -> int:
        return sum(message.via == way for message in self._messages(since, resolved=resolved))

    def _wait_messages(self, since: float, *, resolved: bool) -> dict[str, float]:
        """Arrival of each route's first message of this kind, in epoch seconds."""

        def first() -> dict[str, float]:
            found: dict[str, float] = {}
            for message in self._messages(since, resolved=resolved):
                found.setdefault(message.via, message.at)
            return found

        kind = "end" if resolved else "beginning"
        self._wait(f"sends its {kind} by {', '.join(self._ways)}", lambda: set(self._ways) <= set(first()))
        return first()

    def _wait(self, what: str, holds: Callable[[], bool]) -> float:
        """Epoch seconds at which it held."""
        if not ask_until(bool, holds, within_s=PATIENCE_SECONDS, every_s=_POLL_SECONDS):
            raise ServiceError(
                f"alert {self._alert}: waited {PATIENCE_SECONDS:.0f} s without success until it {what}; see "
                f"{self._alerting.place}"
            )
        return time.time()


class _Traffic:
    """A generator in the background."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._generator: Running | None = None

    def __enter__(self) -> _Traffic:
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def begin(self) -> None:
        run_id = f"drill-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        options = ("--rate", str(_RECORDS_PER_SECOND), "--flat", "--duration", str(int(2 * PATIENCE_SECONDS)))
        command = job("generate-normal").in_environment(self._runtime.topology.environment, *options, run_id=run_id)
        self._generator = self._runtime.begin("generator-drill", command)

    def end(self) -> None:
        if self._generator is not None:
            self._generator.end()


@contextmanager
def _driver_stopped(runtime: Runtime) -> Iterator[None]:
    """No streaming driver inside the block; one that ran before runs again afterwards."""
    ran = bool(runtime.instance(STREAMING))
    if ran:
        runtime.stop(STREAMING)
    try:
        yield
    finally:
        if ran:
            runtime.start(STREAMING)


def _require_quiet(runtime: Runtime) -> None:
    environment = runtime.topology.environment
    for service, problem in runtime.problems().items():
        raise ServiceError(
            f"service {service} of environment {environment} is not healthy ({problem}); the drill needs a platform "
            f"that is up: `{runtime.command('up')}`"
        )
    if real := runtime.alerting.real_receivers():
        raise ServiceError(
            f"environment {environment} has real receivers ({', '.join(real)}); the drill would alarm them"
        )
    for alert in ("BrokerDown", "StreamingDown"):
        if runtime.alerting.is_firing(alert):
            raise ServiceError(f"alert {alert} fires already in environment {environment}; cure that first")
