"""Customers and subscriptions at Stripe, and the numbers in which fetches of subscriptions are ordered."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ROLE = "payments_app"

TABLES = (
    """
    CREATE TABLE payments.customers (
        mandate_id text COLLATE "C" NOT NULL,
        stripe_customer_id text COLLATE "C",
        stripe_attempt integer NOT NULL DEFAULT 1,
        payment_method_id text COLLATE "C",
        wants_method boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        CONSTRAINT pk_customers PRIMARY KEY (mandate_id),
        CONSTRAINT uq_customers_stripe_customer_id UNIQUE (stripe_customer_id)
    )
    """,
    """
    CREATE TABLE payments.stripe_subscriptions (
        subscription_id uuid NOT NULL,
        mandate_id text COLLATE "C" NOT NULL,
        plan_key text,
        members_price_id text COLLATE "C",
        instances_price_id text COLLATE "C",
        checkout_session_id text COLLATE "C",
        stripe_subscription_id text COLLATE "C",
        status text,
        version bigint NOT NULL DEFAULT 0,
        quantity_version bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        CONSTRAINT pk_stripe_subscriptions PRIMARY KEY (subscription_id),
        CONSTRAINT uq_stripe_subscriptions_checkout_session_id UNIQUE (checkout_session_id),
        CONSTRAINT uq_stripe_subscriptions_stripe_subscription_id UNIQUE (stripe_subscription_id)
    )
    """,
    "CREATE INDEX ix_stripe_subscriptions_mandate_id ON payments.stripe_subscriptions (mandate_id)",
    "CREATE SEQUENCE payments.observations AS bigint",
)


def upgrade() -> None:
    """Makes the tables and the numbers."""
    for statement in TABLES:
        op.execute(statement)
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON payments.customers, payments.stripe_subscriptions TO {ROLE}")
    op.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA payments TO {ROLE}")


def downgrade() -> None:
    """Takes them away again."""
    op.execute("DROP SEQUENCE payments.observations")
    op.execute("DROP TABLE payments.stripe_subscriptions, payments.customers")
