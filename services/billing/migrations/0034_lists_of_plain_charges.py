"""Lists find plain charges by the index by time alone, and all other rows by one that charges write nothing to."""

from alembic import op

revision = "0034"
down_revision = "0030"
branch_labels = None
depends_on = None

STATEMENTS = (
    # The whole ledger is read, which may take longer than a statement of a migration otherwise may.
    "SET LOCAL statement_timeout = 0",
    "DROP INDEX billing.ix_transactions_in_time, billing.ix_transactions_creators",
    """
    CREATE INDEX ix_transactions_in_time ON billing.transactions
        (mandate_no, occurred_at, posted_account_no, seq) INCLUDE (member_account_no, dimension_no, amount)
    """,
    """
    CREATE INDEX ix_transactions_others ON billing.transactions (mandate_no, occurred_at, posted_account_no, seq)
     WHERE contra_account <> 'REVENUE' OR transaction_type <> 'DEBIT' OR reference_type <> 'WORKFLOW'
        OR description IS NOT NULL OR reference_id IS NOT NULL OR created_by_user_id IS NOT NULL
    """,
    """
    CREATE INDEX ix_transactions_workflows ON billing.transactions (mandate_no, workflow_id)
     WHERE workflow_id IS NOT NULL
    """,
)


def upgrade() -> None:
    """Makes the indexes."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Brings those before back."""
    op.execute(
        "DROP INDEX billing.ix_transactions_in_time, billing.ix_transactions_others, billing.ix_transactions_workflows"
    )
    op.execute(
        "CREATE INDEX ix_transactions_in_time ON billing.transactions"
        " (mandate_no, occurred_at, member_account_no, dimension_no)"
    )
    op.execute(
        "CREATE INDEX ix_transactions_creators ON billing.transactions (mandate_no, created_by_user_id, occurred_at)"
        " WHERE created_by_user_id IS NOT NULL"
    )
