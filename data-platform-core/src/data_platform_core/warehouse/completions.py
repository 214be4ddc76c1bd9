"""The outcome of each run of a pipeline, in `ops.pipeline_completion_log`: one row per pipeline and data interval.

A repeated run replaces the outcome and keeps the time of the first success, so a backfill does not make an interval
late. A run that is killed leaves no row: its interval is not complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import structlog

from data_platform_core.errors import ConfigurationError, UserError
from data_platform_core.intervals import Interval
from data_platform_core.naming import COMPLETIONS_TABLE
from data_platform_core.settings import PostgresSettings
from data_platform_core.warehouse.connections import connect, database_errors
from data_platform_core.warehouse.outage import PATIENCE_S, resumed

Outcome = Literal["succeeded", "failed"]

#: Longest detail in characters; the table has the same limit.
MAX_DETAIL = 500
_APPLICATION = "crm-completion"

log = structlog.get_logger(__name__)


@dataclass
class Run:
    """A run that is being recorded; the job may set `detail`, one line without PII and secrets."""

    pipeline: str
    interval: Interval
    started_at: datetime
    detail: str = ""


@contextmanager
def recorded(
    postgres: PostgresSettings, pipeline: str, interval: Interval, patience_s: float = PATIENCE_S
) -> Iterator[Run]:
    """Record how the body ends: succeeded, or failed with its error's line.

    Raises ConfigurationError for an interval that is not over, and ServiceError when the table can't be written: before
    the body, or after it when the success can't be recorded for `patience_s` seconds. Then the job failed, and its next
    run records it. An error of the body passes on.
    """
    run = Run(pipeline, interval, datetime.now(UTC))
    if interval.end > run.started_at:
        # A run that catches up would complete every interval until then.
        raise ConfigurationError(f"interval {interval} of {pipeline} is not over; run it after its end, or correct it")
    _require_log(postgres)
    try:
        yield run
    except Exception as error:
        # Only a UserError's text is made for people to read; others may quote a record.
        run.detail = str(error) if isinstance(error, UserError) else type(error).__name__
        _record_failure(postgres, run)
        raise
    resumed(lambda: record(postgres, run, "succeeded"), patience_s)


def record(postgres: PostgresSettings, run: Run, outcome: Outcome, finished_at: datetime | None = None) -> None:
    """Write the run's outcome; repeatable. Raises ServiceError, UnreachableError when the server is lost."""
    # A clock that was set back must not fail a job that is done.
    finished = max(finished_at or datetime.now(UTC), run.started_at)
    values = {
        "pipeline": run.pipeline,
        "start": run.interval.start,
        "end": run.interval.end,
        "outcome": outcome,
        "started": run.started_at,
        "finished": finished,
        "completed": finished if outcome == "succeeded" else None,
        "detail": " ".join(run.detail.replace("\0", " ").split())[:MAX_DETAIL],
    }
    with database_errors(postgres, "recording the outcome"), connect(postgres, _APPLICATION) as connection:
        connection.execute(
            f"""
            INSERT INTO {COMPLETIONS_TABLE} AS log (
                pipeline, interval_start, interval_end, outcome, started_at, finished_at, completed_at, detail
            ) VALUES (
                %(pipeline)s, %(start)s, %(end)s, %(outcome)s, %(started)s, %(finished)s, %(completed)s, %(detail)s
            )
            ON CONFLICT ON CONSTRAINT completion_once DO UPDATE SET
                outcome = excluded.outcome,
                attempts = log.attempts + 1,
                started_at = excluded.started_at,
                finished_at = excluded.finished_at,
                completed_at = coalesce(log.completed_at, excluded.completed_at),
                detail = excluded.detail
            """,
            values,
        )


def _record_failure(postgres: PostgresSettings, run: Run) -> None:
    try:
        record(postgres, run, "failed")
    except UserError as error:
        log.warning("outcome not recorded", pipeline=run.pipeline, interval=str(run.interval), reason=str(error))


def _require_log(postgres: PostgresSettings) -> None:
    """Fail before an hour of work rather than after it."""
    with database_errors(postgres, "reading the outcomes"), connect(postgres, _APPLICATION) as connection:
        connection.execute(f"SELECT FROM {COMPLETIONS_TABLE} LIMIT 0")
