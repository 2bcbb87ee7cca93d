"""Recharges of the stored payment method, checkouts that save one, and what a payment is called elsewhere."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ROLE = "payments_app"

RECHARGES = """
    CREATE TABLE payments.recharges (
        recharge_id uuid NOT NULL,
        mandate_id text COLLATE "C" NOT NULL,
        user_id text COLLATE "C",
        amount numeric(24, 6) NOT NULL,
        currency text NOT NULL,
        state text NOT NULL,
        stripe_payment_intent_id text COLLATE "C",
        decline_code text,
        requested_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        CONSTRAINT pk_recharges PRIMARY KEY (recharge_id),
        CONSTRAINT uq_recharges_stripe_payment_intent_id UNIQUE (stripe_payment_intent_id),
        CONSTRAINT ck_recharges_state
            CHECK (state IN ('CHARGING', 'PROCESSING', 'ACTION_REQUIRED', 'DECLINED', 'SUCCEEDED'))
    )
"""


def upgrade() -> None:
    """Adds tables and columns; the reference of each payment so far is its session."""
    op.execute(RECHARGES)
    op.execute(
        "ALTER TABLE payments.checkouts ADD COLUMN recharge_id uuid,"
        " ADD COLUMN save_method boolean NOT NULL DEFAULT false,"
        ' ADD COLUMN stripe_customer_id text COLLATE "C"'
    )
    op.execute(
        "ALTER TABLE payments.payments ADD COLUMN recharge_id uuid,"
        ' ADD COLUMN reference text COLLATE "C", ADD COLUMN description text'
    )
    op.execute("UPDATE payments.payments SET reference = coalesce(stripe_session_id, stripe_payment_intent_id, '')")
    op.execute("ALTER TABLE payments.payments ALTER COLUMN reference SET NOT NULL")
    op.execute("CREATE INDEX ix_payments_mandate_id ON payments.payments (mandate_id, recorded_at)")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON payments.recharges TO {ROLE}")


def downgrade() -> None:
    """Takes them away again."""
    op.execute("DROP INDEX payments.ix_payments_mandate_id")
    op.execute("ALTER TABLE payments.payments DROP COLUMN recharge_id, DROP COLUMN reference, DROP COLUMN description")
    op.execute(
        "ALTER TABLE payments.checkouts DROP COLUMN recharge_id, DROP COLUMN save_method,"
        " DROP COLUMN stripe_customer_id"
    )
    op.execute("DROP TABLE payments.recharges")
