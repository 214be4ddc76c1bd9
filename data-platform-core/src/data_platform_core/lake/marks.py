"""The tag in Delta's `userMetadata` of each stream commit: its micro-batch (ADR 0003)."""

from __future__ import annotations

import json

#: Commits that are searched first: a writer's tag is in its newest ones. Maintenance copies the tag.
RECENT_COMMITS = 20


def batch_mark(query: str, batch_id: int, epoch: int = 0) -> str:
    """The tag of a commit. It identifies a replayed batch, and the lease under which it was written (ADR 0021).

    `epoch` is the lease's; 0 for a commit without one.
    """
    return json.dumps({"query": query, "batch": batch_id, "epoch": epoch})


def batch_of(metadata: object, query: str) -> int:
    """The micro-batch of `query` in a commit's tag; -1 if there is none."""
    try:
        mark = json.loads(str(metadata or "{}"))
        return int(mark["batch"]) if mark["query"] == query else -1
    except (ValueError, TypeError, KeyError):  # another writer's metadata
        return -1


def epoch_of(metadata: object) -> int:
    """The epoch of the lease under which a commit was written; 0 if its tag has none."""
    try:
        return int(json.loads(str(metadata or "{}"))["epoch"])
    except (ValueError, TypeError, KeyError):
        return 0
