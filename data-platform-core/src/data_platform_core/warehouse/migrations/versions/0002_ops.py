"""Record outcomes of jobs, service levels as rows, and their violations.

A new row of `ops.sla_definitions` is watched at the next `crm sla check`. `data_platform_core.governance` says what
each kind of row means, and which deadlines it refuses.
"""

from alembic import op

from data_platform_core.warehouse.revisions import describe, retire, revive

revision = "0002"
down_revision = "0001"

COMPLETIONS = "ops.pipeline_completion_log"
DEFINITIONS = "ops.sla_definitions"
VIOLATIONS = "ops.sla_violations"


def upgrade() -> None:
    """Apply."""
    for table, create in ((COMPLETIONS, _completions), (DEFINITIONS, _definitions), (VIOLATIONS, _violations)):
        if not revive(table):
            create()


def downgrade() -> None:
    """Take back."""
    retire(VIOLATIONS, DEFINITIONS, COMPLETIONS)


def _completions() -> None:
    op.execute(
        f"""
        CREATE TABLE {COMPLETIONS} (
            completion_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            pipeline text NOT NULL CHECK (pipeline <> ''),
            interval_start timestamp with time zone NOT NULL,
            interval_end timestamp with time zone NOT NULL,
            outcome text NOT NULL CHECK (outcome IN ('succeeded', 'failed')),
            attempts integer NOT NULL DEFAULT 1 CHECK (attempts >= 1),
            started_at timestamp with time zone NOT NULL,
            finished_at timestamp with time zone NOT NULL CHECK (finished_at >= started_at),
            completed_at timestamp with time zone,
            detail text NOT NULL DEFAULT '' CHECK (length(detail) <= 500),
            CONSTRAINT completion_interval CHECK (interval_end > interval_start),
            CONSTRAINT completion_after_its_interval CHECK (finished_at >= interval_end),
            CONSTRAINT completion_of_a_success CHECK (outcome <> 'succeeded' OR completed_at IS NOT NULL),
            CONSTRAINT completion_once UNIQUE (pipeline, interval_start, interval_end)
        )
        """
    )
    # The check reads the completions of a pipeline from an interval on.
    op.execute(
        f"CREATE INDEX completion_by_interval ON {COMPLETIONS} (pipeline, interval_end) WHERE completed_at IS NOT NULL"
    )
    describe(
        COMPLETIONS,
        "One row per pipeline and data interval: the outcome of its last run, and when it first succeeded.",
        {
            "pipeline": "Name of a job of the catalogue (crm jobs), or of a DAG.",
            "interval_start": "The data interval that the run was for, inclusive.",
            "interval_end": "Its end, exclusive.",
            "outcome": "Of the last run of the interval.",
            "attempts": "Runs of the interval so far.",
            "started_at": "Of the last run.",
            "finished_at": "Of the last run.",
            "completed_at": "End of the first run that succeeded; null while none has. A later failure keeps it.",
            "detail": "One line: why the last run failed, or what it did. No PII and no secret.",
        },
    )


def _definitions() -> None:
    op.execute(
        f"""
        CREATE TABLE {DEFINITIONS} (
            definition_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            pipeline text NOT NULL CHECK (pipeline <> ''),
            kind text NOT NULL CHECK (kind IN ('realtime', 'hourly', 'daily')),
            deadline_minutes integer NOT NULL CHECK (deadline_minutes > 0),
            time_zone text NOT NULL DEFAULT 'UTC',
            owner text NOT NULL CHECK (owner <> ''),
            channel text NOT NULL DEFAULT 'all' CHECK (channel IN ('slack', 'email', 'webhook', 'all')),
            enabled boolean NOT NULL DEFAULT true,
            escalate_after_minutes integer NOT NULL DEFAULT 60 CHECK (escalate_after_minutes > 0),
            watched_since timestamp with time zone NOT NULL DEFAULT now()
                CHECK (watched_since BETWEEN '2000-01-01 00:00+00' AND '9000-01-01 00:00+00'),
            origin text NOT NULL DEFAULT 'person' CHECK (origin IN ('contract', 'seed', 'person')),
            CONSTRAINT definition_once UNIQUE (pipeline, kind)
        )
        """
    )
    describe(
        DEFINITIONS,
        "Service levels: one row per pipeline and kind. Rows are watched from the next check on.",
        {
            "pipeline": "A job or DAG (hourly, daily, realtime), a landing table or a streaming query (realtime).",
            "kind": "hourly: each UTC hour; daily: each day of the time zone; realtime: at any moment.",
            "deadline_minutes": "hourly: minutes after the hour; daily: minutes after the next midnight, on the clock "
            "of the time zone (540 is 09:00); realtime: the greatest age of the newest data.",
            "time_zone": "IANA name, of daily rows.",
            "owner": "Who answers for the pipeline.",
            "channel": "Where a violation is notified; an escalation goes to all.",
            "escalate_after_minutes": "An open violation escalates this long after its deadline.",
            "watched_since": "Deadlines before this moment are not checked.",
            "origin": "contract: deadline and owner follow the contract at each migration; seed: inserted once; "
            "person: the migrations leave it alone.",
        },
    )


def _violations() -> None:
    op.execute(
        f"""
        CREATE TABLE {VIOLATIONS} (
            violation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            definition_id bigint NOT NULL REFERENCES {DEFINITIONS},
            interval_start timestamp with time zone,
            interval_end timestamp with time zone,
            due_at timestamp with time zone NOT NULL,
            opened_at timestamp with time zone NOT NULL,
            completed_at timestamp with time zone,
            escalated_at timestamp with time zone CHECK (escalated_at >= opened_at),
            closed_at timestamp with time zone CHECK (closed_at >= opened_at),
            closed_because text CHECK (closed_because IN ('completed', 'disabled')),
            notified_at timestamp with time zone,
            resolution_notified_at timestamp with time zone,
            CONSTRAINT violation_interval CHECK (
                (interval_start IS NULL) = (interval_end IS NULL) AND interval_end > interval_start
            ),
            CONSTRAINT violation_after_its_deadline CHECK (opened_at > due_at),
            CONSTRAINT violation_closed_with_a_reason CHECK ((closed_at IS NULL) = (closed_because IS NULL)),
            CONSTRAINT violation_completed_is_closed CHECK (
                (completed_at IS NOT NULL) = (coalesce(closed_because, '') = 'completed')
            )
        )
        """
    )
    # Open once per definition and interval: two checks at a time insert one row.
    op.execute(
        f"CREATE UNIQUE INDEX violation_open_once ON {VIOLATIONS} (definition_id, interval_start) "
        "NULLS NOT DISTINCT WHERE closed_at IS NULL"
    )
    # An interval is violated once, however late its violation is closed. Realtime rows have none and may repeat.
    op.execute(
        f"CREATE UNIQUE INDEX violation_once ON {VIOLATIONS} (definition_id, interval_start) "
        "WHERE interval_start IS NOT NULL"
    )
    op.execute(f"CREATE INDEX violation_by_deadline ON {VIOLATIONS} (definition_id, due_at)")
    op.execute(
        f"CREATE INDEX violation_to_resolve ON {VIOLATIONS} (definition_id) "
        "WHERE closed_at IS NOT NULL AND notified_at IS NOT NULL AND resolution_notified_at IS NULL"
    )
    describe(
        VIOLATIONS,
        "Deadlines that were missed: opened by the first check after the deadline, closed once the pipeline completed.",
        {
            "interval_start": "The data interval that is missing; null for realtime rows.",
            "due_at": "The deadline.",
            "opened_at": "The check that found it.",
            "completed_at": "When the pipeline completed; of realtime rows the check that found it in time again.",
            "escalated_at": "The check that escalated it.",
            "closed_at": "The check that closed it.",
            "closed_because": "completed: the pipeline did; disabled: the definition was.",
            "notified_at": "When Alertmanager accepted it; null while not, or if it was over when it was found.",
            "resolution_notified_at": "When Alertmanager accepted its end.",
        },
    )
