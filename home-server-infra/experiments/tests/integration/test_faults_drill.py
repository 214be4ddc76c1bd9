"""Real alerts reach real receivers once, and are resolved once."""

from __future__ import annotations

import time

import pytest

from data_platform_core.access.names import STREAMING
from data_platform_core.topology import Topology
from platform_experiments import drill
from platform_experiments.embedded import EmbeddedRuntime

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

#: Waits of rules and routes; with their real length the drill takes twice as long.
SCALE = 0.1


def wait_until_silent(runtime: EmbeddedRuntime) -> None:
    """Tests before this one sent records without a driver: their alert ends a minute after the last record."""
    deadline = time.monotonic() + 240
    while any(runtime.alerting.is_firing(alert) for alert in ("BrokerDown", "StreamingDown")):
        assert time.monotonic() < deadline, "an alert of the tests before does not end"
        time.sleep(2)


def test_a_breach_is_notified_once_and_resolved_once(running_stack: Topology) -> None:
    runtime = EmbeddedRuntime(running_stack.environment)
    runtime.stop(STREAMING)
    wait_until_silent(runtime)
    began = time.time()
    legs = drill.run(runtime, SCALE, print)
    told = {(leg.alert, leg.via) for leg in legs}
    assert told == {
        *(("BrokerDown", way) for way in ("slack", "email")),
        *(("StreamingDown", way) for way in ("webhook", "slack", "email")),
    }
    assert [leg for leg in legs if not leg.once] == []
    assert drill.silent(runtime, began, "UnderReplicatedPartitions"), "it follows from the broker's fall"
