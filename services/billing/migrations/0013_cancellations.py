"""Cancellations of usage, before or after it arrives, and claims of events that neither cost anything nor wait."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

WAITING = "reason NOT IN ('FREE', 'CANCELLED', 'CANCELLATION')"


def upgrade() -> None:
    """Makes the table; the index of parked events leaves out what is claimed for good."""
    op.execute(
        """
        CREATE TABLE billing.cancellations (
            mandate_no integer NOT NULL,
            event_id uuid NOT NULL,
            reason text NOT NULL,
            cancelled_by_user_id text,
            cancelled_at timestamptz NOT NULL,
            CONSTRAINT pk_cancellations PRIMARY KEY (mandate_no, event_id)
        )
        """
    )
    # What is cancelled stays cancelled: not even a fault of the service can change or remove it.
    op.execute("GRANT SELECT, INSERT ON billing.cancellations TO billing_app")
    op.execute("ALTER TABLE billing.mandates ADD COLUMN has_cancellations boolean DEFAULT false NOT NULL")
    op.execute("DROP INDEX billing.ix_unposted_events_parked")
    op.execute(f"CREATE INDEX ix_unposted_events_parked ON billing.unposted_events (price_revision) WHERE {WAITING}")


def downgrade() -> None:
    """Takes it away again; only for a system without cancellations."""
    op.execute("DROP INDEX billing.ix_unposted_events_parked")
    op.execute(
        "CREATE INDEX ix_unposted_events_parked ON billing.unposted_events (price_revision) WHERE reason <> 'FREE'"
    )
    op.execute("ALTER TABLE billing.mandates DROP COLUMN has_cancellations")
    op.execute("DROP TABLE billing.cancellations")
