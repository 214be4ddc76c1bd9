"""The commits that made a Delta table what it is: a restore takes back those between its version and itself. Pure.

A table's log keeps every commit, undone or not. Whoever reads marks from it (`last_batch`) must not count what was
undone: a batch that a restore took away would be skipped for good (ADR 0027).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from data_platform_core.lake.marks import batch_of

APPEND: Final = "WRITE"
RESTORE: Final = "RESTORE"
#: A restore that does not name its version: what it kept is unknown.
_UNKNOWN: Final = -1


@dataclass(frozen=True)
class Commit:
    """A commit of a table's log. `restored_to` is the version that a restore made the newest one again."""

    version: int
    time: datetime
    operation: str
    mark: str | None = None
    restored_to: int | None = None


def commit_of(raw: Mapping[str, Any]) -> Commit:
    """A commit from an entry of the table's history, as delta-rs and Spark's rows give it."""
    operation = str(raw.get("operation") or "")
    time = raw["timestamp"]
    moment = time if isinstance(time, datetime) else datetime.fromtimestamp(int(time) / 1_000, UTC)
    return Commit(
        version=int(raw["version"]),
        time=moment if moment.tzinfo else moment.replace(tzinfo=UTC),
        operation=operation,
        mark=raw.get("userMetadata"),
        restored_to=_restored_to(raw.get("operationParameters") or {}) if operation == RESTORE else None,
    )


def _restored_to(parameters: Mapping[str, Any]) -> int:
    version = parameters.get("version")
    return _UNKNOWN if version in (None, "", "null") else int(version)


def lineage(commits: Iterable[Commit], version: int | None = None) -> Iterator[Commit]:
    """Of `commits` those that made the table at `version` (default: the newest), the newest first.

    What a restore took back is left out. A restore to an unknown version ends the line.
    """
    wanted = version
    for commit in sorted(commits, key=lambda one: one.version, reverse=True):
        if wanted is not None and commit.version > wanted:
            continue
        yield commit
        wanted = commit.version - 1 if commit.restored_to is None else commit.restored_to


def newest_batch(commits: Iterable[Commit], query: str, version: int | None = None) -> int:
    """The newest micro-batch of `query` that the table has at `version` (default: the newest); -1 for none."""
    return max((batch_of(commit.mark, query) for commit in lineage(commits, version)), default=-1)


def undone(commits: Iterable[Commit]) -> dict[int, int]:
    """By version that the newest one no longer has: the restore that took it back."""
    listed = list(commits)
    kept = {commit.version for commit in lineage(listed)}
    restores = sorted(commit.version for commit in listed if commit.restored_to is not None)
    return {
        commit.version: next(restore for restore in restores if restore > commit.version)
        for commit in listed
        if commit.version not in kept
    }
