"""What the driver waits for, how long between two checks, and what it does not wait for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import REGISTRY

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError, UnreachableError
from data_platform_core.settings import load_settings
from data_platform_core.streaming.observe.waiting import LONGEST_PAUSE_S, checks, wait_for_services

pytestmark = pytest.mark.unit


class Stopwatch(threading.Event):
    """Does not sleep: records the pauses, is set after `last` of them, and calls `on_pause` in each."""

    def __init__(self, last: int = 1000, on_pause: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self._last, self._on_pause = last, on_pause

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0)
        self._on_pause()
        if len(self.pauses) >= self._last:
            self.set()
        return self.is_set()


def away(times: int, service: str = "Kafka") -> Callable[[], None]:
    """A check of a service that does not answer so many times."""
    answers: Iterator[bool] = iter([False] * times)

    def check() -> None:
        if not next(answers, True):
            raise UnreachableError(service, f"{service} does not answer")

    return check


def waiting(service: str) -> float | None:
    return REGISTRY.get_sample_value("crm_streaming_waiting", {"for": service})


def test_services_that_answer_are_not_waited_for() -> None:
    clock = Stopwatch()
    assert wait_for_services({"object store": away(0), "Kafka": away(0)}, clock)
    assert clock.pauses == []
    assert (waiting("object store"), waiting("Kafka")) == (0, 0)


def test_pauses_double_up_to_the_cap() -> None:
    clock = Stopwatch()
    assert wait_for_services({"Kafka": away(7)}, clock)
    assert clock.pauses == [1, 2, 4, 8, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_the_metric_names_the_service_while_it_is_waited_for_and_no_longer() -> None:
    seen: list[tuple[float | None, float | None]] = []
    clock = Stopwatch(on_pause=lambda: seen.append((waiting("object store"), waiting("registry"))))
    assert wait_for_services({"object store": away(1, "object store"), "registry": away(1, "registry")}, clock)
    assert seen == [(1, 0), (0, 1)]
    assert (waiting("object store"), waiting("registry")) == (0, 0)


def test_a_stopping_driver_waits_no_longer() -> None:
    assert not wait_for_services({"Kafka": away(100)}, Stopwatch(last=2))
    assert waiting("Kafka") == 0


def test_a_refusal_is_an_error_at_once() -> None:
    def refuses() -> None:
        raise ServiceError("topic crm.orders.v1 does not exist")

    clock = Stopwatch()
    with pytest.raises(ServiceError, match="does not exist"):
        wait_for_services({"Kafka": refuses}, clock)
    assert clock.pauses == []


def test_waiting_is_limited_so_that_settings_are_reloaded() -> None:
    with pytest.raises(UnreachableError, match="Kafka does not answer"):
        wait_for_services({"Kafka": away(100)}, Stopwatch(), patience_s=0)
    assert waiting("Kafka") == 0


def test_each_service_that_is_away_is_named(contracts: dict[str, Contract], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_platform_core.kafka.client.REQUEST_TIMEOUT_S", 0.5)
    monkeypatch.setattr("data_platform_core.kafka.topics.REQUEST_TIMEOUT_S", 0.5)
    with socket.socket() as nobody:  # bound and not listening: the address refuses connections
        nobody.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{nobody.getsockname()[1]}"
        settings = load_settings("streaming", "test")
        away = settings.model_copy(
            update={
                "object_store": settings.object_store.model_copy(update={"url": f"http://{place}"}),
                "kafka": settings.kafka.model_copy(update={"bootstrap_servers": place}),
                "registry": settings.registry.model_copy(update={"url": f"http://{place}"}),
            }
        )
        found = {}
        for service, check in checks(away, contracts).items():
            with pytest.raises(UnreachableError) as refused:
                check()
            found[service] = refused.value.service
    assert found == {name: name for name in ("object store", "Kafka", "registry")}
