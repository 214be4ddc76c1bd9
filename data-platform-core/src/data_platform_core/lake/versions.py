"""The versions of an entity's tables: what each commit did, and which version a table had at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.lake.delta import delta_table, store_errors
from data_platform_core.lake.lease_record import moment
from data_platform_core.lake.lineage import Commit, commit_of, undone
from data_platform_core.lake.marks import mark_of
from data_platform_core.lake.store import lake_object
from data_platform_core.settings import ObjectStoreSettings

LAYERS: Final = ("silver", "bronze")


@dataclass(frozen=True)
class Changed:
    """Rows of the files that a commit added and removed; None where the log has no count. Compaction has none."""

    added: int | None
    removed: int | None


@dataclass(frozen=True)
class Version:
    """A commit for people. `undone_by` is the restore that took it back."""

    commit: Commit
    changed: Changed
    undone_by: int | None

    @property
    def batch(self) -> str:
        """Query and micro-batch; empty for a commit of no batch."""
        mark = mark_of(self.commit.mark)
        return "" if mark is None else f"{mark.query} {mark.batch}"


class TableVersions:
    """The log of one table of an entity. Raises ServiceError when the object store fails or there is no table."""

    def __init__(self, settings: ObjectStoreSettings, contract: Contract, layer: str = "silver") -> None:
        if layer not in LAYERS:
            raise ConfigurationError(f"layer {layer!r} does not exist; choose one of {', '.join(LAYERS)}")
        self._settings = settings
        self.folder = contract.names.silver if layer == "silver" else contract.names.bronze
        self._table = delta_table(settings, self.folder)

    @property
    def newest(self) -> int:
        """The newest version."""
        return int(self._table.version())

    def commits(self, count: int | None = None) -> list[Commit]:
        """The newest `count` commits (default: all that the log still has), the newest first."""
        with store_errors(self._settings, self._settings.lake_bucket):
            return [commit_of(raw) for raw in self._table.history(count)]

    def described(self, count: int) -> list[Version]:
        """The newest `count` versions with the rows that each changed; one small read of the store for each."""
        commits = self.commits(count)
        back = undone(commits)
        return [Version(commit, self._changed(commit.version), back.get(commit.version)) for commit in commits]

    def find(self, wanted: str) -> int:
        """The version that a person names: a number, or the newest one at or before a time (UTC unless it says so).

        Raises ConfigurationError when it is neither, or the log does not have it.
        """
        if wanted.isdecimal():
            return self._known(int(wanted))
        try:
            when = datetime.fromisoformat(wanted)
        except ValueError:
            raise ConfigurationError(
                f"{wanted!r} is neither a version nor a time; write 12 or 2026-03-01T12:00:00"
            ) from None
        return self._at(when if when.tzinfo else when.replace(tzinfo=UTC))

    def _known(self, version: int) -> int:
        if version > self.newest:
            raise ConfigurationError(f"table {self.folder} has no version {version}; its newest is {self.newest}")
        return version

    def _at(self, when: datetime) -> int:
        commits = self.commits()
        found = max((commit.version for commit in commits if commit.time <= when), default=None)
        if found is None:
            oldest = min(commits, key=lambda commit: commit.version)
            raise ConfigurationError(
                f"table {self.folder} has no version from before {moment(when)}: the oldest that its log has is "
                f"{oldest.version}, of {moment(oldest.time)}"
            )
        return found

    def _changed(self, version: int) -> Changed:
        content = lake_object(self._settings, f"{self.folder}/_delta_log/{version:020d}.json")
        if content is None:
            return Changed(None, None)
        return changed_rows(content.splitlines(), lambda: self._rows_by_file(version - 1))

    def _rows_by_file(self, version: int) -> Mapping[str, int | None]:
        """Rows by path of the version's files, as far as the log still has that version."""
        try:
            adds = delta_table(self._settings, self.folder, version).get_add_actions(flatten=True)
        except ServiceError:
            return {}
        return dict(zip(adds["path"].to_pylist(), adds["num_records"].to_pylist(), strict=True))


def changed_rows(lines: Iterable[bytes], before: Callable[[], Mapping[str, int | None]]) -> Changed:
    """The rows that a commit, in the log's own words, added and removed.

    `before` is asked for the rows of the files of the version before: the log does not repeat them for a removed file.
    """
    actions = [json.loads(line) for line in lines]
    added, removed = (
        [action[kind] for action in actions if kind in action and action[kind].get("dataChange", True)]
        for kind in ("add", "remove")
    )
    known = before() if removed else {}
    return Changed(_total(map(_rows, added)), _total(known.get(action["path"]) for action in removed))


def _rows(action: Mapping[str, Any]) -> int | None:
    return json.loads(action.get("stats") or "{}").get("numRecords")


def _total(counts: Iterable[int | None]) -> int | None:
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total
