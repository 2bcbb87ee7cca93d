"""When a subscription ended, so that a period of it that is told later does not stay open."""

from alembic import op

revision = "0029"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the time; of those that ended before it is not known."""
    op.execute("ALTER TABLE billing.mandate_subscriptions ADD COLUMN ended_at TIMESTAMP WITH TIME ZONE")


def downgrade() -> None:
    """Takes it away again."""
    op.execute("ALTER TABLE billing.mandate_subscriptions DROP COLUMN ended_at")
