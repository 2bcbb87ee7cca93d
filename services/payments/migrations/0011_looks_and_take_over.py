"""What was seen of each payment method, checkouts that the system before this one has opened, subscriptions that were
taken back, and payments that were not told of."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ROLE = "payments_app"

SEEN_METHODS = """
    CREATE TABLE payments.seen_methods (
        method_id text COLLATE "C" NOT NULL,
        stripe_customer_id text COLLATE "C",
        created_at timestamptz,
        version bigint NOT NULL,
        seen_at timestamptz NOT NULL,
        CONSTRAINT pk_seen_methods PRIMARY KEY (method_id)
    )
"""
# When Stripe made them is not known here; whatever is saved from now on was made later.
KNOWN_METHODS = """
    INSERT INTO payments.seen_methods (method_id, stripe_customer_id, created_at, version, seen_at)
    SELECT payment_method_id, min(stripe_customer_id), min(updated_at), 0, min(updated_at) FROM payments.customers
     WHERE payment_method_id IS NOT NULL AND stripe_customer_id IS NOT NULL GROUP BY payment_method_id
"""


def upgrade() -> None:
    """Makes the table, with the methods that are stored, and adds the columns."""
    op.execute(SEEN_METHODS)
    op.execute("CREATE INDEX ix_seen_methods_stripe_customer_id ON payments.seen_methods (stripe_customer_id)")
    op.execute(KNOWN_METHODS)
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON payments.seen_methods TO {ROLE}")
    op.execute("ALTER TABLE payments.checkouts ALTER COLUMN created_by_user_id DROP NOT NULL")
    op.execute("ALTER TABLE payments.stripe_subscriptions ADD COLUMN taken_back_at timestamptz")
    op.execute(
        "ALTER TABLE payments.payments ADD COLUMN published boolean NOT NULL DEFAULT true,"
        " ADD COLUMN subscription_id uuid, ADD COLUMN period_start timestamptz"
    )


def downgrade() -> None:
    """Takes them away again."""
    op.execute(
        "ALTER TABLE payments.payments DROP COLUMN published, DROP COLUMN subscription_id, DROP COLUMN period_start"
    )
    op.execute("ALTER TABLE payments.stripe_subscriptions DROP COLUMN taken_back_at")
    op.execute("UPDATE payments.checkouts SET created_by_user_id = 'platform' WHERE created_by_user_id IS NULL")
    op.execute("ALTER TABLE payments.checkouts ALTER COLUMN created_by_user_id SET NOT NULL")
    op.execute("DROP TABLE payments.seen_methods")
