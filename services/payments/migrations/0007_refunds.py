"""Money of payments that went back, or that was to go back and did not."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ROLE = "payments_app"

REFUNDS = """
    CREATE TABLE payments.refunds (
        refund_id text COLLATE "C" NOT NULL,
        payment_event_id uuid NOT NULL,
        kind text NOT NULL,
        amount numeric(24, 6) NOT NULL,
        stripe_amount numeric(24, 6) NOT NULL,
        currency text NOT NULL,
        state text NOT NULL,
        recorded_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        CONSTRAINT pk_refunds PRIMARY KEY (refund_id),
        CONSTRAINT fk_refunds_payment_event_id FOREIGN KEY (payment_event_id)
            REFERENCES payments.payments (event_id),
        CONSTRAINT ck_refunds_kind CHECK (kind IN ('REFUND', 'DISPUTE')),
        CONSTRAINT ck_refunds_state CHECK (state IN ('TAKEN', 'NOT_TAKEN', 'GIVEN_BACK'))
    )
"""


def upgrade() -> None:
    """Makes the table."""
    op.execute(REFUNDS)
    op.execute("CREATE INDEX ix_refunds_payment_event_id ON payments.refunds (payment_event_id)")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON payments.refunds TO {ROLE}")


def downgrade() -> None:
    """Takes it away again."""
    op.execute("DROP TABLE payments.refunds")
