"""Which settings a bench compares."""

from __future__ import annotations

import pytest

from data_platform_core.errors import ConfigurationError
from data_platform_core.settings import known_variables
from platform_experiments.bench.settings import _arms, _chosen

pytestmark = pytest.mark.unit


def test_all_are_compared_when_none_is_named() -> None:
    assert _chosen(()) == _arms()


def test_those_named_are_compared_with_what_the_platform_does() -> None:
    chosen = list(_chosen(("trigger", "compaction off")))
    assert chosen == ["as it is", "trigger 500 ms", "trigger 1 s", "trigger 2 s", "compaction off"]


def test_a_setting_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no setting begins with 'tigger'; one of: as it is, trigger 500 ms"):
        _chosen(("trigger", "tigger"))


def test_every_change_is_a_setting() -> None:
    assert {name for changes in _arms().values() for name in changes} <= known_variables()
