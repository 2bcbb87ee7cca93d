"""What a transaction is explained with is found without reading a mandate's whole ledger."""

from alembic import op

revision = "0019"
down_revision = "0015"
branch_labels = None
depends_on = None

STATEMENTS = (
    # What corrects charges is rare, and charges themselves are not in this index.
    """
    CREATE INDEX ix_transactions_corrections ON billing.transactions (mandate_no, reference_id)
     WHERE own AND contra_account = 'REVENUE'
    """,
    """
    CREATE INDEX ix_holds_mandate_no_settled_by ON billing.holds (mandate_no, settled_by)
     WHERE settled_by IS NOT NULL
    """,
)


def upgrade() -> None:
    """Makes the indexes."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes them away again."""
    op.execute("DROP INDEX billing.ix_transactions_corrections, billing.ix_holds_mandate_no_settled_by")
