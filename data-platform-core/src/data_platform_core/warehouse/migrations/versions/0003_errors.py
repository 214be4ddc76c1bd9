"""Record dead letters and what became of them.

The tables come before the jobs that fill them, so that both can be built against one shape. `wire.dead_letters`
describes a dead letter's headers.
"""

from alembic import op

from data_platform_core.warehouse.revisions import describe, retire, revive

revision = "0003"
down_revision = "0002"

ERRORS = "errors.dlq_errors"
RETRIES = "errors.retry_history"


def upgrade() -> None:
    """Apply."""
    for table, create in ((ERRORS, _errors), (RETRIES, _retries)):
        if not revive(table):
            create()


def downgrade() -> None:
    """Take back."""
    retire(RETRIES, ERRORS)


def _errors() -> None:
    op.execute(
        f"""
        CREATE TABLE {ERRORS} (
            dlq_error_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            entity text NOT NULL CHECK (entity <> ''),
            source_topic text NOT NULL,
            source_partition integer NOT NULL CHECK (source_partition >= 0),
            source_offset bigint NOT NULL CHECK (source_offset >= 0),
            source_ts timestamp with time zone NOT NULL,
            dlq_partition integer NOT NULL CHECK (dlq_partition >= 0),
            dlq_offset bigint NOT NULL CHECK (dlq_offset >= 0),
            reason text NOT NULL CHECK (reason <> ''),
            run_id text,
            producer_id integer,
            seq bigint,
            key bytea,
            value bytea,
            recorded_at timestamp with time zone NOT NULL DEFAULT now(),
            status text NOT NULL DEFAULT 'waiting'
                CHECK (status IN ('waiting', 'produced', 'mended', 'given_up', 'discarded')),
            next_retry_at timestamp with time zone,
            resolved_at timestamp with time zone,
            CONSTRAINT dlq_error_once UNIQUE (source_topic, source_partition, source_offset),
            CONSTRAINT dlq_error_origin CHECK (num_nulls(run_id, producer_id, seq) IN (0, 3)),
            CONSTRAINT dlq_error_resolved CHECK (
                (resolved_at IS NOT NULL) = (status IN ('mended', 'given_up', 'discarded'))
            ),
            CONSTRAINT dlq_error_retries_while_open CHECK (
                next_retry_at IS NULL OR status IN ('waiting', 'produced')
            )
        )
        """
    )
    op.execute(f"CREATE INDEX dlq_error_due ON {ERRORS} (next_retry_at) WHERE next_retry_at IS NOT NULL")
    op.execute(f"CREATE INDEX dlq_error_by_reason ON {ERRORS} (entity, reason, recorded_at)")
    op.execute(f"CREATE INDEX dlq_error_of_run ON {ERRORS} (run_id) WHERE run_id IS NOT NULL")
    describe(
        ERRORS,
        "One row per dead letter. Holds PII: key and value are the original's.",
        {
            "source_topic": "With partition and offset the original record, which is the dead letter's identity.",
            "source_ts": "The original's Kafka timestamp.",
            "dlq_partition": "Where the first copy of the dead letter is.",
            "reason": "Why it was refused; for a contract with the name of the check.",
            "run_id": "With producer_id and seq its place in a ledger; null for a foreign producer.",
            "key": "PII. Bytes of the original; null if it was too large to forward.",
            "value": "PII. Bytes of the original; null if it was too large to forward.",
            "status": "waiting: for a retry or a person; produced: sent again, its outcome is open; mended: it reached "
            "silver; given_up: no retry is left; discarded: by a person.",
            "next_retry_at": "When the next retry is due; null for none.",
            "resolved_at": "When it was mended, given up or discarded.",
        },
    )


def _retries() -> None:
    op.execute(
        f"""
        CREATE TABLE {RETRIES} (
            dlq_error_id bigint NOT NULL REFERENCES {ERRORS},
            attempt integer NOT NULL CHECK (attempt >= 1),
            tried_at timestamp with time zone NOT NULL DEFAULT now(),
            outcome text NOT NULL CHECK (outcome IN ('produced', 'mended', 'refused', 'failed')),
            detail text NOT NULL DEFAULT '' CHECK (length(detail) <= 500),
            CONSTRAINT retry_once PRIMARY KEY (dlq_error_id, attempt)
        )
        """
    )
    op.execute(f"CREATE INDEX retry_by_time ON {RETRIES} (tried_at)")
    describe(
        RETRIES,
        "Each retry of a dead letter.",
        {
            "attempt": "1 for the first retry; a number is used once, so two retries at a time are one.",
            "outcome": "produced: sent again; mended: it reached silver; refused: it is a dead letter again; failed: "
            "it could not be sent.",
            "detail": "One line. No PII.",
        },
    )
