"""Balances that wait to be told, one row an account, in place of an outbox row for every movement."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE billing.untold_balances (
        mandate_no INTEGER NOT NULL,
        account_no BIGINT NOT NULL,
        CONSTRAINT pk_untold_balances PRIMARY KEY (mandate_no, account_no)
    )
    """,
    "GRANT SELECT, INSERT, DELETE ON billing.untold_balances TO billing_app",
)


def upgrade() -> None:
    """Makes the table; outbox rows that wait are still relayed."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes the table away again; only for an empty system."""
    op.execute("DROP TABLE billing.untold_balances")
