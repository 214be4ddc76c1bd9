"""The strict peer decides as streaming does: the contract's checks, and each event once within the window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from data_platform_core.contracts import load_contract
from platform_experiments.bench.peers.plain import arrow_schema
from platform_experiments.bench.peers.strict import Judge

pytestmark = pytest.mark.unit

NOW_MS = 1_790_000_000_000
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
EVENT = {
    "event_id": "0b0e6a9c-2d3f-4a51-9f0e-3a1c5d7e9b11", "event_ts": NOW, "produced_ts": NOW, "profile_id": 7,
    "session_id": "s-1", "event_type": "page_view", "device": "mobile", "os": "ios", "channel": "direct",
    "site_category": "news", "run_id": "trial", "source": "trial",
}  # fmt: skip


def judged(**changes: object) -> bool:
    contract = load_contract("events")
    columns = arrow_schema(contract.avro)
    row = {name: None for name in columns.names} | EVENT | changes
    rows = pa.Table.from_pylist([row], columns.remove_metadata())
    (good,) = Judge(contract).passes(rows.append_column("kafka_ts", pa.array([NOW_MS], pa.timestamp("ms", tz="UTC"))))
    return good


def test_a_good_event_passes() -> None:
    assert judged()


@pytest.mark.parametrize(
    "changes",
    [
        {"event_id": "short"}, {"device": "toaster"}, {"site_category": "x" * 201}, {"site_category": "a\0b"},
        {"event_ts": NOW + timedelta(days=2)}, {"rating": 3}, {"site_category": None},
    ],
)  # fmt: skip
def test_an_event_that_breaks_a_rule_does_not(changes: dict[str, object]) -> None:
    assert not judged(**changes)


def test_an_event_is_accepted_once_within_the_window_and_again_after_it() -> None:
    contract = load_contract("events")
    judge, window_ms = Judge(contract), contract.silver.dedup_window_minutes * 60_000
    assert judge.unseen(["a", "b", "a"], [NOW_MS] * 3) == [True, True, False]
    assert judge.unseen(["b"], [NOW_MS + window_ms]) == [False]
    assert judge.unseen(["c"], [NOW_MS + window_ms + 1]) == [True]
    assert judge.unseen(["a"], [NOW_MS + window_ms + 2]) == [True]
