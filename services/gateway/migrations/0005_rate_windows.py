"""Requests of the last minute, which several gateways count together."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table, which is not logged: what is in it is of no use after a minute. Rows have room to be updated in
    their place, which each request does."""
    op.execute(
        "CREATE UNLOGGED TABLE gateway.rate_windows ("
        ' subject text COLLATE "C" NOT NULL,'
        ' operation_id text COLLATE "C" NOT NULL,'
        " granted boolean NOT NULL,"
        " taken timestamptz[] NOT NULL,"
        " CONSTRAINT pk_rate_windows PRIMARY KEY (subject, operation_id)"
        ") WITH (fillfactor = 50)"
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON gateway.rate_windows TO gateway_app")


def downgrade() -> None:
    """Drops it."""
    op.execute("DROP TABLE gateway.rate_windows")
