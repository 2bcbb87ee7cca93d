"""Refunds and lost disputes of payments that were taken back."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE billing.payment_refunds (
        mandate_no INTEGER NOT NULL,
        event_id UUID NOT NULL,
        refund_id TEXT NOT NULL,
        reference TEXT NOT NULL,
        amount BIGINT NOT NULL,
        digest BYTEA NOT NULL,
        refunded_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_payment_refunds PRIMARY KEY (mandate_no, event_id)
    )
    """,
    "GRANT SELECT, INSERT ON billing.payment_refunds TO billing_app",
)


def upgrade() -> None:
    """Makes the table."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes it away again."""
    op.execute("DROP TABLE billing.payment_refunds")
