"""Money of payments that went back, or that was to go back and did not; monthly invoices as Stripe has them."""

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

INVOICES = """
    CREATE TABLE payments.invoices (
        invoice_id uuid NOT NULL,
        mandate_id text COLLATE "C" NOT NULL,
        number text NOT NULL,
        total numeric(24, 6) NOT NULL,
        currency text NOT NULL,
        stripe_invoice_id text COLLATE "C",
        hosted_url text,
        created_at timestamptz NOT NULL,
        CONSTRAINT pk_invoices PRIMARY KEY (invoice_id),
        CONSTRAINT uq_invoices_stripe_invoice_id UNIQUE (stripe_invoice_id)
    )
"""


def upgrade() -> None:
    """Makes the tables."""
    op.execute(INVOICES)
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON payments.invoices TO {ROLE}")
    op.execute(REFUNDS)
    op.execute("CREATE INDEX ix_refunds_payment_event_id ON payments.refunds (payment_event_id)")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON payments.refunds TO {ROLE}")


def downgrade() -> None:
    """Takes them away again."""
    op.execute("DROP TABLE payments.refunds, payments.invoices")
