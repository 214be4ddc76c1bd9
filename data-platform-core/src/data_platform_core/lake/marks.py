"""The note that each commit of a stream carries in Delta's `userMetadata`: which micro-batch it holds (ADR 0003)."""

from __future__ import annotations

import json

#: Commits that are looked at first: a writer's mark is in its newest ones. Maintenance carries the mark along.
RECENT_COMMITS = 20


def batch_mark(query: str, batch_id: int) -> str:
    """The note of a commit, so that a replayed batch is known."""
    return json.dumps({"query": query, "batch": batch_id})


def batch_of(metadata: object, query: str) -> int:
    """The micro-batch of `query` that a commit's note tells of; -1 when it tells of none."""
    try:
        mark = json.loads(str(metadata or "{}"))
        return int(mark["batch"]) if mark["query"] == query else -1
    except (ValueError, TypeError, KeyError):  # another writer's note
        return -1
