"""Dead letters that an operator has closed: when, by whom and why."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = ("closed_at timestamptz", "closed_by text", "closed_reason text")


def upgrade() -> None:
    """Adds the columns; none is closed so far."""
    op.execute("ALTER TABLE subscriptions.quarantine " + ", ".join(f"ADD COLUMN {column}" for column in COLUMNS))


def downgrade() -> None:
    """Takes the columns away again."""
    names = [column.split()[0] for column in COLUMNS]
    op.execute("ALTER TABLE subscriptions.quarantine " + ", ".join(f"DROP COLUMN {name}" for name in names))
