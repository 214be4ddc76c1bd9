"""Real breaches reach real receivers, once, and end once."""

from __future__ import annotations

import time

import pytest

from data_platform_core.topology import Topology
from embedded_stack import api
from embedded_stack.monitoring.alerts import is_firing
from platform_experiments import drill

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

ENVIRONMENT = "test"
#: Waits of rules and routes; with their real length the drill takes twice as long.
SCALE = 0.1


def wait_until_silent(topology: Topology) -> None:
    """Tests before this one sent records without a driver: their alert ends a minute after the last record."""
    deadline = time.monotonic() + 240
    while any(is_firing(topology, alert) for alert in ("BrokerDown", "StreamingDown")):
        assert time.monotonic() < deadline, "an alert of the tests before does not end"
        time.sleep(2)


def test_a_breach_is_told_once_and_ends_once(running_stack: Topology) -> None:
    api.stop(ENVIRONMENT, "streaming")
    wait_until_silent(running_stack)
    began = time.time()
    legs = drill.run(ENVIRONMENT, SCALE, print)
    told = {(leg.alert, leg.via) for leg in legs}
    assert told == {
        *(("BrokerDown", way) for way in ("slack", "email")),
        *(("StreamingDown", way) for way in ("webhook", "slack", "email")),
    }
    assert [leg for leg in legs if not leg.once] == []
    assert drill.silenced(ENVIRONMENT, began, "UnderReplicatedPartitions"), "it follows from the broker's fall"
