"""Topics that are not read because almost everything of them was refused, until an operator resumes."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table; nothing is stopped so far."""
    op.execute(
        """
        CREATE TABLE billing.stopped_consumers (
            group_id TEXT NOT NULL,
            topic TEXT NOT NULL,
            reason TEXT NOT NULL,
            stopped_at TIMESTAMP WITH TIME ZONE NOT NULL,
            resumed_at TIMESTAMP WITH TIME ZONE,
            resumed_by TEXT,
            CONSTRAINT pk_stopped_consumers PRIMARY KEY (group_id, topic)
        )
        """
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON billing.stopped_consumers TO billing_app")


def downgrade() -> None:
    """Drops the table."""
    op.execute("DROP TABLE billing.stopped_consumers")
