"""What a drill counts as one message each way."""

from __future__ import annotations

import pytest

from platform_experiments.drill import Leg, drill_table

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("firing", "resolved", "once"), [(1, 1, True), (2, 1, False), (1, 0, False)])
def test_a_message_that_came_twice_or_never_is_counted(firing: int, resolved: int, once: bool) -> None:
    leg = Leg("BrokerDown", "slack", 1, 2, 3, 4, firing, resolved)
    assert leg.once is once
    assert drill_table([leg]).row_count == 1
