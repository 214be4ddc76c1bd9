"""Service levels in PostgreSQL: `ops.sla_definitions`, `ops.sla_violations`, and the observations of pipelines.

The connection commits each statement. Every method may be called again: what is done already is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from data_platform_core.contracts import entities
from data_platform_core.governance.definitions import Channel, Definition, Kind
from data_platform_core.governance.evaluation import Completion, Ended, Missed, Violation
from data_platform_core.governance.pipelines import Pipeline, known_pipelines
from data_platform_core.intervals import Interval
from data_platform_core.jobs import load_jobs
from data_platform_core.naming import (
    COMPLETIONS_TABLE,
    LOADS_TABLE,
    SLA_DEFINITIONS_TABLE,
    SLA_VIOLATIONS_TABLE,
    names,
)
from data_platform_core.settings import PostgresSettings
from data_platform_core.warehouse.connections import connect, database_errors

Params = tuple[Any, ...] | dict[str, Any]

#: Columns of a definition besides its key.
_COLUMNS = tuple(column.name for column in fields(Definition) if column.name != "definition_id")


@dataclass(frozen=True)
class Notice:
    """What is due to Alertmanager for a definition: its open violations, and those whose end was not posted yet.

    `since`: the earliest deadline of the open ones, `intervals` their number. `escalated`: whether one of them is;
    `was_escalated`: whether one of all these is. Ids are those of violations whose notification, or whose end, is not
    recorded yet.
    """

    definition: Definition
    is_open: bool
    escalated: bool
    was_escalated: bool
    since: datetime
    intervals: int
    unnotified: tuple[int, ...]
    unresolved: tuple[int, ...]


@contextmanager
def repository(postgres: PostgresSettings) -> Iterator[Repository]:
    """A repository on a connection of its own. Raises ServiceError in one line, inside the context as well."""
    with (
        database_errors(postgres, "checking service levels"),
        connect(postgres, "crm-sla", autocommit=True) as connection,
    ):
        yield Repository(connection)


class Repository:
    """Reads and writes the rows; every rule is in `evaluation`."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def definitions(self) -> list[Definition]:
        """Every definition, by name."""
        query = f"SELECT definition_id, {', '.join(_COLUMNS)} FROM {SLA_DEFINITIONS_TABLE} ORDER BY pipeline, kind"
        return [_definition(row) for row in self._rows(query)]

    def add(self, definition: Definition, *, replace: bool) -> bool:
        """Store a definition; `replace` changes the row of its pipeline and kind. Returns False if the row stays."""
        update = "UPDATE SET " + ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS)
        return self._changes(
            f"INSERT INTO {SLA_DEFINITIONS_TABLE} ({', '.join(_COLUMNS)}) "
            f"VALUES ({', '.join(f'%({column})s' for column in _COLUMNS)}) "
            f"ON CONFLICT (pipeline, kind) DO {update if replace else 'NOTHING'}",
            vars(definition),
        )

    def switch(self, name: str, *, enabled: bool) -> bool:
        """Enable or disable a definition. Enabled again, it is watched from now on. Returns False if there is none."""
        return self._changes(
            f"UPDATE {SLA_DEFINITIONS_TABLE} SET enabled = %(enabled)s, watched_since = "
            "CASE WHEN %(enabled)s AND NOT enabled THEN now() ELSE watched_since END "
            "WHERE pipeline || '/' || kind = %(name)s",
            {"enabled": enabled, "name": name},
        )

    def known_pipelines(self) -> dict[str, Pipeline]:
        """Every pipeline that a definition may name: of jobs and contracts, and those that have recorded a run."""
        recorded = [row["pipeline"] for row in self._rows(f"SELECT DISTINCT pipeline FROM {COMPLETIONS_TABLE}")]
        return known_pipelines(load_jobs().values(), map(names, entities()), recorded)

    def completions(self, pipeline: str, since: datetime) -> list[Completion]:
        """Completed intervals that end after `since`."""
        rows = self._rows(
            f"SELECT interval_start, interval_end, completed_at FROM {COMPLETIONS_TABLE} "
            "WHERE pipeline = %s AND interval_end >= %s AND completed_at IS NOT NULL",
            (pipeline, since),
        )
        return [Completion(_interval(row), row["completed_at"]) for row in rows]

    def last_success(self, pipeline: str) -> datetime | None:
        """When a pipeline last succeeded, in any interval."""
        return self._moment(
            f"SELECT max(finished_at) AS moment FROM {COMPLETIONS_TABLE} WHERE pipeline = %s AND outcome = 'succeeded'",
            (pipeline,),
        )

    def last_rows(self, entity: str) -> datetime | None:
        """When new rows last came into a landing table: the newest `loaded_at` in it."""
        return self._moment(
            f"SELECT max(loaded_at) AS moment FROM {LOADS_TABLE} WHERE entity = %s AND rows > 0", (entity,)
        )

    def violations(self, definition: Definition, since: datetime) -> list[Violation]:
        """Open violations of a definition, and those of intervals that end after `since`."""
        rows = self._rows(
            f"SELECT * FROM {SLA_VIOLATIONS_TABLE} WHERE definition_id = %s "
            "AND (closed_at IS NULL OR interval_end >= %s) ORDER BY due_at",
            (definition.definition_id, since),
        )
        return [
            Violation(
                violation_id=row["violation_id"],
                interval=_interval(row) if row["interval_start"] else None,
                due_at=row["due_at"],
                is_open=row["closed_at"] is None,
                is_escalated=row["escalated_at"] is not None,
            )
            for row in rows
        ]

    def open(self, definition: Definition, missed: Missed, now: datetime) -> bool:
        """Store a missed deadline. Returns False when another check did."""
        interval, over = missed.interval, missed.completed_at is not None
        return self._changes(
            f"INSERT INTO {SLA_VIOLATIONS_TABLE} (definition_id, interval_start, interval_end, due_at, opened_at, "
            "completed_at, closed_at, closed_because) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT DO NOTHING",
            (
                definition.definition_id,
                interval.start if interval else None,
                interval.end if interval else None,
                missed.due_at,
                now,
                missed.completed_at,
                now if over else None,
                "completed" if over else None,
            ),
        )

    def close(self, ended: Ended, now: datetime) -> bool:
        """Close a violation. Returns False when another check did."""
        return self._changes(
            f"UPDATE {SLA_VIOLATIONS_TABLE} SET closed_at = greatest(%s, opened_at), closed_because = %s, "
            "completed_at = %s WHERE violation_id = %s AND closed_at IS NULL",
            (now, ended.because, ended.completed_at, ended.violation_id),
        )

    def escalate(self, violation_id: int, now: datetime) -> bool:
        """Escalate an open violation. Returns False when another check did."""
        return self._changes(
            f"UPDATE {SLA_VIOLATIONS_TABLE} SET escalated_at = greatest(%s, opened_at) WHERE violation_id = %s "
            "AND closed_at IS NULL AND escalated_at IS NULL",
            (now, violation_id),
        )

    def notices(self, definitions: Iterable[Definition]) -> list[Notice]:
        """A notice for each definition that has an open violation, or one whose end was not posted yet."""
        rows = self._rows(
            f"""
            SELECT definition_id,
                bool_or(closed_at IS NULL) AS is_open,
                bool_or(closed_at IS NULL AND escalated_at IS NOT NULL) AS escalated,
                bool_or(escalated_at IS NOT NULL) AS was_escalated,
                coalesce(min(due_at) FILTER (WHERE closed_at IS NULL), min(due_at)) AS since,
                count(*) FILTER (WHERE closed_at IS NULL) AS intervals,
                coalesce(array_agg(violation_id) FILTER (WHERE closed_at IS NULL AND notified_at IS NULL), '{{}}')
                    AS unnotified,
                coalesce(array_agg(violation_id) FILTER (WHERE closed_at IS NOT NULL), '{{}}') AS unresolved
            FROM {SLA_VIOLATIONS_TABLE}
            WHERE closed_at IS NULL OR (notified_at IS NOT NULL AND resolution_notified_at IS NULL)
            GROUP BY definition_id
            """
        )
        by_id = {each.definition_id: each for each in definitions}
        return [
            Notice(
                definition=by_id[row["definition_id"]],
                is_open=row["is_open"],
                escalated=row["escalated"],
                was_escalated=row["was_escalated"],
                since=row["since"],
                intervals=row["intervals"],
                unnotified=tuple(row["unnotified"]),
                unresolved=tuple(row["unresolved"]),
            )
            for row in rows
            if row["definition_id"] in by_id
        ]

    def notified(self, violations: Sequence[int], now: datetime) -> None:
        """Alertmanager accepted these violations."""
        self._stamp("notified_at", violations, now)

    def resolved(self, violations: Sequence[int], now: datetime) -> None:
        """Alertmanager accepted the end of these violations."""
        self._stamp("resolution_notified_at", violations, now)

    def _stamp(self, column: str, violations: Sequence[int], now: datetime) -> None:
        if violations:
            self._connection.execute(
                f"UPDATE {SLA_VIOLATIONS_TABLE} SET {column} = %s WHERE violation_id = ANY(%s) AND {column} IS NULL",
                (now, list(violations)),
            )

    def _changes(self, statement: str, values: Params) -> bool:
        """Whether a statement changed a row."""
        return bool(self._connection.execute(statement.encode(), values).rowcount)

    def _moment(self, query: str, values: tuple[Any, ...]) -> datetime | None:
        (row,) = self._rows(query, values)
        moment: datetime | None = row["moment"]
        return moment

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        return self._connection.cursor(row_factory=dict_row).execute(query.encode(), values).fetchall()


def _interval(row: dict[str, Any]) -> Interval:
    return Interval(row["interval_start"], row["interval_end"])


def _definition(row: dict[str, Any]) -> Definition:
    return Definition(**row | {"kind": Kind(row["kind"]), "channel": Channel(row["channel"])})
