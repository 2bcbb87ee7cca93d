"""Time zones that a mandate had before, so that a new one counts from the next month on."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column; nobody's zone has changed so far as anyone knows."""
    op.execute("ALTER TABLE billing.mandates ADD COLUMN past_time_zones JSONB DEFAULT '[]' NOT NULL")


def downgrade() -> None:
    """Takes the column away again."""
    op.execute("ALTER TABLE billing.mandates DROP COLUMN past_time_zones")
