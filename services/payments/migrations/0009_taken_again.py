"""Refunds and disputes that take money again after it was given back; when a subscription was first told of."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds how often a refund or dispute has taken, the number of its newest look, and since when others know that
    Stripe has a subscription."""
    op.execute(
        "ALTER TABLE payments.refunds ADD COLUMN taken_count integer NOT NULL DEFAULT 0,"
        " ADD COLUMN version bigint NOT NULL DEFAULT 0"
    )
    op.execute("UPDATE payments.refunds SET taken_count = 1 WHERE state <> 'NOT_TAKEN' AND amount > 0")
    op.execute("ALTER TABLE payments.stripe_subscriptions ADD COLUMN begun_told_at timestamptz")


def downgrade() -> None:
    """Takes them away again."""
    op.execute("ALTER TABLE payments.stripe_subscriptions DROP COLUMN begun_told_at")
    op.execute("ALTER TABLE payments.refunds DROP COLUMN taken_count, DROP COLUMN version")
