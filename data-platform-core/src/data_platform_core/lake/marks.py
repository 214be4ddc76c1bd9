"""The tag in Delta's `userMetadata` of each stream commit: its micro-batch (ADR 0003)."""

from __future__ import annotations

import json
from typing import NamedTuple

#: Commits that are searched first: a writer's tag is in its newest ones. Maintenance copies the tag.
RECENT_COMMITS = 20


class Mark(NamedTuple):
    """A commit's tag: the micro-batch, and the epoch of the lease under which it was written; 0 for none."""

    query: str
    batch: int
    epoch: int


def batch_mark(query: str, batch_id: int, epoch: int = 0) -> str:
    """The tag of a commit. It identifies a replayed batch, and the lease under which it was written (ADR 0021).

    `epoch` is the lease's; 0 for a commit without one.
    """
    return json.dumps({"query": query, "batch": batch_id, "epoch": epoch})


def mark_of(metadata: object) -> Mark | None:
    """The tag in a commit's metadata; None for another writer's metadata."""
    try:
        mark = json.loads(str(metadata or "{}"))
        return Mark(str(mark["query"]), int(mark["batch"]), int(mark.get("epoch", 0)))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def batch_of(metadata: object, query: str) -> int:
    """The micro-batch of `query` in a commit's tag; -1 if there is none."""
    mark = mark_of(metadata)
    return mark.batch if mark is not None and mark.query == query else -1


def epoch_of(metadata: object) -> int:
    """The epoch of the lease under which a commit was written; 0 if its tag has none."""
    mark = mark_of(metadata)
    return 0 if mark is None else mark.epoch
