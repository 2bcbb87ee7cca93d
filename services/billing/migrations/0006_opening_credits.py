"""How much each member's opening credit was, so that the audit can tell one whose row is gone from one of nothing."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE billing.accounts ADD COLUMN opening_credit BIGINT",
    # Where the mandate gave none, there is no row.
    """
    UPDATE billing.accounts a
       SET opening_credit = coalesce((SELECT sum(t.amount) FROM billing.transactions t
                                       WHERE t.mandate_no = a.mandate_no AND t.moved_account_no = a.no
                                         AND t.counter = 'PROMOTIONAL' AND t.reference_type = 'SYSTEM'), 0)
     WHERE a.opening_credit_at IS NOT NULL
    """,
)


def upgrade() -> None:
    """Adds the amount, and fills it from the ledger as it is."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes the amount away again."""
    op.execute("ALTER TABLE billing.accounts DROP COLUMN opening_credit")
