"""Silences of publishers that were noticed."""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE billing.publisher_silences (
        mandate_no INTEGER NOT NULL,
        silence BIGINT NOT NULL,
        last_usage_at TIMESTAMP WITH TIME ZONE NOT NULL,
        noticed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        over BOOLEAN NOT NULL,
        CONSTRAINT pk_publisher_silences PRIMARY KEY (mandate_no)
    )
    """,
    "GRANT SELECT, INSERT, UPDATE ON billing.publisher_silences TO billing_app",
)


def upgrade() -> None:
    """Makes the table."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes it away again; silences are then noticed once more."""
    op.execute("DROP TABLE billing.publisher_silences")
