"""The order of the tiers, and the file of seconds that each test took."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import seconds
import tiers

pytestmark = pytest.mark.unit


def item(name: str, folder: str, *markers: str) -> SimpleNamespace:
    """The parts of a test that its tier depends on."""
    return SimpleNamespace(
        nodeid=name,
        path=Path("tests") / folder / "test_it.py",
        get_closest_marker=lambda wanted: wanted if wanted in markers else None,
    )


def test_what_needs_no_server_comes_first_and_the_pipeline_last() -> None:
    found = [
        item("tampering", "e2e", "faults", "last"),
        item("pipeline", "e2e", "e2e"),
        item("faults of the pipeline", "e2e", "faults"),
        item("servers", "integration", "integration"),
        item("faults of servers", "integration", "faults"),
        item("spark", "unit", "spark"),
        item("quick", "unit", "unit"),
    ]
    tiers.pytest_collection_modifyitems(found)  # type: ignore[arg-type]
    assert [one.nodeid for one in found] == [
        "quick", "spark", "servers", "faults of servers", "pipeline", "faults of the pipeline", "tampering",
    ]  # fmt: skip


def test_a_test_that_no_tier_would_run_is_refused_by_name() -> None:
    with pytest.raises(pytest.UsageError, match="test_forgotten: has no marker"):
        tiers.tier(item("test_forgotten", "unit"))  # type: ignore[arg-type]


def test_a_number_is_kept_until_the_test_needs_a_different_time() -> None:
    kept = {"noisy": 10, "slower": 10, "quicker": 10, "quick": 1}
    took = {"noisy": 14.4, "slower": 15.6, "quicker": 4.0, "quick": 2.9}
    assert seconds.merged(kept, took, kept) == {"noisy": 10, "quick": 1, "quicker": 4, "slower": 16}


def test_tests_of_other_tiers_stay_and_tests_that_are_gone_leave() -> None:
    kept = {"other tier": 90, "gone": 5}
    assert seconds.merged(kept, {"new": 3.2}, ["other tier", "new"]) == {"new": 3, "other tier": 90}


def test_tests_of_less_than_a_second_have_no_line() -> None:
    assert seconds.merged({"was slow": 8}, {"was slow": 0.1, "quick": 0.3}, ["was slow", "quick"]) == {}


def reported(name: str, outcome: str, duration: float) -> SimpleNamespace:
    return SimpleNamespace(nodeid=name, duration=duration, failed=outcome == "failed")


def session_of(source: str) -> SimpleNamespace:
    return SimpleNamespace(config=SimpleNamespace(args_source=pytest.Config.ArgsSource[source]))


@pytest.mark.parametrize(("source", "gone"), [("TESTPATHS", {}), ("ARGS", {"elsewhere": 7})])
def test_a_session_adds_up_a_tests_fixtures_and_leaves_out_what_failed(
    tmp_path: Path, source: str, gone: dict[str, int]
) -> None:
    """Tests that were not collected are deleted when all were selected, and kept when only some were."""
    file = tmp_path / "seconds.json"
    file.write_text(json.dumps({"elsewhere": 7, "broken": 40}))
    keeper = seconds.Keeper(file)
    keeper.pytest_collection_modifyitems([item(name, "unit", "unit") for name in ("broken", "well")])  # type: ignore[list-item]
    for report in (reported("well", "passed", 2.0), reported("well", "passed", 3.0), reported("broken", "failed", 1.0)):
        keeper.pytest_runtest_logreport(report)  # type: ignore[arg-type]
    keeper.pytest_sessionfinish(session_of(source))  # type: ignore[arg-type]
    assert json.loads(file.read_text()) == {"broken": 40, "well": 5} | gone
