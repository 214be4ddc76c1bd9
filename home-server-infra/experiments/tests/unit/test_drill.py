"""What a drill counts as told once."""

from __future__ import annotations

import pytest

from embedded_stack.monitoring.sink import FIRING, RESOLVED
from platform_experiments.drill import Leg, drill_table

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("messages", "once"),
    [({FIRING: 1, RESOLVED: 1}, True), ({FIRING: 2, RESOLVED: 1}, False), ({FIRING: 1, RESOLVED: 0}, False)],
)
def test_a_drill_counts_a_message_that_came_twice_or_never(messages: dict[str, int], once: bool) -> None:
    leg = Leg("BrokerDown", "slack", 1, 2, 3, 4, messages)
    assert leg.once is once
    assert drill_table([leg]).row_count == 1
