"""What lists of transactions filter by is in the index by time; rows that name their creator have one of their own."""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

STATEMENTS = (
    "DROP INDEX billing.ix_transactions_mandate_no_occurred_at",
    """
    CREATE INDEX ix_transactions_in_time ON billing.transactions
        (mandate_no, occurred_at, member_account_no, dimension_no)
    """,
    # Usage names no creator, so charges write nothing here.
    """
    CREATE INDEX ix_transactions_creators ON billing.transactions (mandate_no, created_by_user_id, occurred_at)
     WHERE created_by_user_id IS NOT NULL
    """,
)


def upgrade() -> None:
    """Makes the indexes."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Brings the one before back."""
    op.execute("DROP INDEX billing.ix_transactions_in_time, billing.ix_transactions_creators")
    op.execute("CREATE INDEX ix_transactions_mandate_no_occurred_at ON billing.transactions (mandate_no, occurred_at)")
