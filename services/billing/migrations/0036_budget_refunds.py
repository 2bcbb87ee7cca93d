"""What went back of the payments of periods, kept until their budgets are told of and after that, and what of the
budgets it has moved."""

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

STATEMENTS = (
    # The grants of all budgets are looked for, which may take longer than a statement of a migration otherwise may.
    "SET LOCAL statement_timeout = 0",
    """
    CREATE TABLE billing.budget_refunds (
        mandate_no INTEGER NOT NULL,
        refund_id TEXT COLLATE "C" NOT NULL,
        reference TEXT NOT NULL,
        subscription_id UUID NOT NULL,
        period_start TIMESTAMP WITH TIME ZONE NOT NULL,
        amount NUMERIC NOT NULL,
        paid_amount NUMERIC NOT NULL,
        description TEXT NOT NULL,
        refunded_at TIMESTAMP WITH TIME ZONE NOT NULL,
        digest BYTEA NOT NULL,
        noted_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_budget_refunds PRIMARY KEY (mandate_no, refund_id),
        CONSTRAINT ck_budget_refunds_amount CHECK (amount >= 0 AND paid_amount > 0)
    )
    """,
    """
    CREATE TABLE billing.budget_movements (
        mandate_no INTEGER NOT NULL,
        event_id UUID NOT NULL,
        subscription_id UUID NOT NULL,
        period_start TIMESTAMP WITH TIME ZONE NOT NULL,
        reference TEXT COLLATE "C" NOT NULL,
        grant_no BIGINT NOT NULL,
        amount BIGINT NOT NULL,
        CONSTRAINT pk_budget_movements PRIMARY KEY (mandate_no, event_id),
        CONSTRAINT ck_budget_movements_amount CHECK (amount <> 0)
    )
    """,
    "ALTER TABLE billing.subscription_budgets ADD COLUMN grant_nos BIGINT[] NOT NULL DEFAULT '{}'",
    # Both were written at one time. Two periods that were told of together are told apart by when they end.
    """
    UPDATE billing.subscription_budgets b SET grant_nos = ARRAY(
        SELECT g.no FROM billing.grants g
         WHERE g.mandate_no = b.mandate_no AND g.kind = 'BUDGET' AND g.reference_id = b.subscription_id::text
           AND g.granted_at = b.credited_at AND (g.expires_at > b.period_start OR g.expires_at IS NULL)
           AND NOT EXISTS (SELECT FROM billing.subscription_budgets later
                            WHERE later.mandate_no = b.mandate_no AND later.subscription_id = b.subscription_id
                              AND later.period_start > b.period_start AND later.period_start < g.expires_at)
         ORDER BY g.no)
     WHERE b.amount > 0
    """,
    "GRANT SELECT, INSERT ON billing.budget_refunds, billing.budget_movements TO billing_app",
)


def upgrade() -> None:
    """Makes the tables. What went back before is in payment_refunds, and stays as it was settled."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes them away again."""
    op.execute("DROP TABLE billing.budget_movements, billing.budget_refunds")
    op.execute("ALTER TABLE billing.subscription_budgets DROP COLUMN grant_nos")
