"""What other services have asked of the directory, once each, and topics that are not read until an operator
resumes."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables; the application role can add requests, not change or remove them."""
    op.execute(
        """
        CREATE TABLE gateway.directory_requests (
            request_id uuid NOT NULL CONSTRAINT pk_directory_requests PRIMARY KEY,
            mandate_id text COLLATE "C" NOT NULL,
            requested_by text COLLATE "C" NOT NULL,
            cause text NOT NULL,
            applied_at timestamptz NOT NULL
        )
        """
    )
    op.execute(
        """
        CREATE TABLE gateway.stopped_consumers (
            group_id text NOT NULL,
            topic text NOT NULL,
            reason text NOT NULL,
            stopped_at timestamptz NOT NULL,
            resumed_at timestamptz,
            resumed_by text,
            CONSTRAINT pk_stopped_consumers PRIMARY KEY (group_id, topic)
        )
        """
    )
    op.execute("GRANT SELECT, INSERT ON gateway.directory_requests TO gateway_app")
    op.execute("GRANT SELECT, INSERT, UPDATE ON gateway.stopped_consumers TO gateway_app")


def downgrade() -> None:
    """Drops them."""
    op.execute("DROP TABLE gateway.stopped_consumers")
    op.execute("DROP TABLE gateway.directory_requests")
