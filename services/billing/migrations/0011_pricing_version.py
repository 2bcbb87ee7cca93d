"""The version of a mandate grows with what its charges are priced by, and with nothing else, and is named for that."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Renames the column; what it counted so far was at least that."""
    op.execute("ALTER TABLE billing.mandates RENAME COLUMN version TO pricing_version")


def downgrade() -> None:
    """Gives it its old name again."""
    op.execute("ALTER TABLE billing.mandates RENAME COLUMN pricing_version TO version")
