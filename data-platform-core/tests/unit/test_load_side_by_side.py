"""Entities are loaded at the same time; one that fails does not keep the others from being loaded."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from data_platform_core.batch.load_warehouse import _side_by_side
from data_platform_core.errors import ServiceError
from data_platform_core.warehouse.loads import LoadResult, Step

pytestmark = pytest.mark.unit


def result(entity: str) -> LoadResult:
    return LoadResult(Step(entity, "load-1", "snapshot", "table", -1, 3, started_at=datetime.now(UTC)), 1, 10, 0)


def test_entities_are_loaded_at_the_same_time_and_reported_in_order() -> None:
    together = threading.Barrier(2)

    def waiting_for_the_other(entity: str) -> list[LoadResult]:
        together.wait(timeout=10)
        return [result(entity)]

    found = _side_by_side([lambda: waiting_for_the_other("events"), lambda: waiting_for_the_other("orders")])
    assert [each.step.entity for each in found] == ["events", "orders"]


def test_an_entity_that_fails_leaves_the_others_loaded_and_is_raised() -> None:
    loaded = []

    def fail(reason: str) -> list[LoadResult]:
        raise ServiceError(reason)

    def load() -> list[LoadResult]:
        loaded.append("orders")
        return [result("orders")]

    with capture_logs() as logs, pytest.raises(ServiceError, match="events: no such table"):
        _side_by_side([lambda: fail("events: no such table"), load, lambda: fail("products: not readable")])
    assert loaded == ["orders"]
    assert [each["reason"] for each in logs] == ["products: not readable"]
