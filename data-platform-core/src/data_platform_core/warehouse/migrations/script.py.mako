"""${message}.

Revision ${up_revision}, after ${down_revision | comma,n}.
"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Apply."""
    ${upgrades if upgrades else "raise NotImplementedError"}


def downgrade() -> None:
    """Take back, without losing a row: `warehouse.revisions.retire`."""
    ${downgrades if downgrades else "raise NotImplementedError"}
