"""The note that each commit of a stream carries in Delta's `userMetadata`: which micro-batch it holds (ADR 0003)."""

from __future__ import annotations

import json

#: Commits that are looked at first: a writer's mark is in its newest ones. Maintenance carries the mark along.
RECENT_COMMITS = 20


def batch_mark(query: str, batch_id: int, epoch: int = 0) -> str:
    """The note of a commit, so that a replayed batch is known, and under which lease it was written (ADR 0021).

    `epoch` is the lease's; 0 for a commit without one.
    """
    return json.dumps({"query": query, "batch": batch_id, "epoch": epoch})


def batch_of(metadata: object, query: str) -> int:
    """The micro-batch of `query` that a commit's note tells of; -1 when it tells of none."""
    try:
        mark = json.loads(str(metadata or "{}"))
        return int(mark["batch"]) if mark["query"] == query else -1
    except (ValueError, TypeError, KeyError):  # another writer's note
        return -1


def epoch_of(metadata: object) -> int:
    """The epoch of the lease under which a commit was written; 0 when its note has none."""
    try:
        return int(json.loads(str(metadata or "{}"))["epoch"])
    except (ValueError, TypeError, KeyError):
        return 0
