"""Memberships and accesses that wait for the person's consent, who need not be in the directory meanwhile."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TABLES = ("memberships", "feature_access")


def upgrade() -> None:
    """Marks what is pending; only what is not pending refers to a user who must exist."""
    for table in _TABLES:
        op.execute(f"ALTER TABLE gateway.{table} DROP CONSTRAINT fk_{table}_user_id")
        op.execute(
            f"ALTER TABLE gateway.{table} ADD COLUMN pending boolean NOT NULL DEFAULT false,"
            ' ADD COLUMN known_user_id text COLLATE "C"'
            " GENERATED ALWAYS AS (CASE WHEN pending THEN NULL ELSE user_id END) STORED"
            f" CONSTRAINT fk_{table}_known_user_id REFERENCES gateway.users (id)"
        )


def downgrade() -> None:
    """Takes the marks away again; only for a directory without anything pending."""
    for table in _TABLES:
        op.execute(f"ALTER TABLE gateway.{table} DROP COLUMN known_user_id, DROP COLUMN pending")
        op.execute(
            f"ALTER TABLE gateway.{table} ADD CONSTRAINT fk_{table}_user_id"
            " FOREIGN KEY (user_id) REFERENCES gateway.users (id)"
        )
