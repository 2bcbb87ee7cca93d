"""Attempts to pay an invoice of a subscription that have failed."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLE = """
    CREATE TABLE payments.invoice_attempts (
        stripe_invoice_id text COLLATE "C" NOT NULL,
        attempt integer NOT NULL,
        noted_at timestamptz NOT NULL,
        CONSTRAINT pk_invoice_attempts PRIMARY KEY (stripe_invoice_id, attempt)
    )
"""


def upgrade() -> None:
    """Makes the table."""
    op.execute(TABLE)
    op.execute("GRANT SELECT, INSERT ON payments.invoice_attempts TO payments_app")


def downgrade() -> None:
    """Takes it away again."""
    op.execute("DROP TABLE payments.invoice_attempts")
