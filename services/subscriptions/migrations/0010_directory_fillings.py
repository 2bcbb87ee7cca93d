"""Whether the copy of the directory was filled with all that it is made of."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table; a copy of before has no accesses and users that were published earlier, and is filled."""
    op.execute(
        """
        CREATE TABLE subscriptions.directory_fillings (
            kinds text NOT NULL CONSTRAINT pk_directory_fillings PRIMARY KEY,
            filled_at timestamptz NOT NULL
        )
        """
    )
    op.execute("GRANT SELECT, INSERT ON subscriptions.directory_fillings TO subscriptions_app")


def downgrade() -> None:
    """Drops the table."""
    op.execute("DROP TABLE subscriptions.directory_fillings")
