"""What is known of subscriptions at Stripe, what was asked of it, paid periods, quantities, reminders of trials."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = ("starts_at", "settle_at")
TABLES = {
    "stripe_facts": """
    CREATE TABLE subscriptions.stripe_facts (
        subscription_id uuid NOT NULL CONSTRAINT pk_stripe_facts PRIMARY KEY,
        mandate_id text COLLATE "C" NOT NULL,
        checkout_version bigint NOT NULL,
        checkout jsonb,
        version bigint NOT NULL,
        subscription jsonb,
        observed_at timestamptz,
        paid_up_version bigint NOT NULL,
        past_due jsonb NOT NULL,
        applied boolean NOT NULL
    )
    """,
    "paid_periods": """
    CREATE TABLE subscriptions.paid_periods (
        subscription_id uuid NOT NULL,
        period_start timestamptz NOT NULL,
        period_end timestamptz NOT NULL,
        stripe_invoice_id text COLLATE "C" NOT NULL,
        CONSTRAINT pk_paid_periods PRIMARY KEY (subscription_id, period_start)
    )
    """,
    "given_budgets": """
    CREATE TABLE subscriptions.given_budgets (
        subscription_id uuid NOT NULL,
        period_start timestamptz NOT NULL,
        version bigint NOT NULL,
        CONSTRAINT pk_given_budgets PRIMARY KEY (subscription_id, period_start),
        CONSTRAINT fk_given_budgets_subscription_id FOREIGN KEY (subscription_id)
            REFERENCES subscriptions.subscriptions (id)
    )
    """,
    "stripe_requests": """
    CREATE TABLE subscriptions.stripe_requests (
        request_id uuid NOT NULL CONSTRAINT pk_stripe_requests PRIMARY KEY,
        subscription_id uuid NOT NULL,
        action text NOT NULL,
        return_url text,
        outcome text,
        code text,
        redirect_url text,
        requested_at timestamptz NOT NULL,
        settled_at timestamptz,
        CONSTRAINT fk_stripe_requests_subscription_id FOREIGN KEY (subscription_id)
            REFERENCES subscriptions.subscriptions (id),
        CONSTRAINT ck_stripe_requests_action CHECK (action IN ('checkout', 'end_at_period_end', 'resume', 'cancel')),
        CONSTRAINT ck_stripe_requests_outcome CHECK (outcome IN ('done', 'refused', 'expired'))
    )
    """,
    "trial_reminders": """
    CREATE TABLE subscriptions.trial_reminders (
        subscription_id uuid NOT NULL,
        days_left integer NOT NULL,
        reminded_at timestamptz NOT NULL,
        CONSTRAINT pk_trial_reminders PRIMARY KEY (subscription_id, days_left),
        CONSTRAINT fk_trial_reminders_subscription_id FOREIGN KEY (subscription_id)
            REFERENCES subscriptions.subscriptions (id)
    )
    """,
}
INDEXES = (
    "CREATE INDEX ix_stripe_facts_mandate_id ON subscriptions.stripe_facts (mandate_id) WHERE NOT applied",
    "CREATE INDEX ix_stripe_requests_subscription_id ON subscriptions.stripe_requests (subscription_id)",
    "CREATE INDEX ix_subscriptions_settle_at ON subscriptions.subscriptions (settle_at) WHERE settle_at IS NOT NULL",
    """
    CREATE INDEX ix_subscriptions_trial_ends_at ON subscriptions.subscriptions (trial_ends_at)
        WHERE state = 'TRIALING'
    """,
)
GRANTS = {
    "stripe_facts": "SELECT, INSERT, UPDATE",
    "paid_periods": "SELECT, INSERT",
    "given_budgets": "SELECT, INSERT",
    "stripe_requests": "SELECT, INSERT, UPDATE",
    "trial_reminders": "SELECT, INSERT",
}


def upgrade() -> None:
    """Adds what is new; no subscription at Stripe is known so far."""
    for column in COLUMNS:
        op.execute(f"ALTER TABLE subscriptions.subscriptions ADD COLUMN {column} timestamptz")
    for statement in (*TABLES.values(), *INDEXES):
        op.execute(statement)
    for table, rights in GRANTS.items():
        op.execute(f"GRANT {rights} ON subscriptions.{table} TO subscriptions_app")


def downgrade() -> None:
    """Takes it away again."""
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE subscriptions.{table}")
    op.execute("DROP INDEX subscriptions.ix_subscriptions_trial_ends_at")
    for column in COLUMNS:
        op.execute(f"ALTER TABLE subscriptions.subscriptions DROP COLUMN {column}")
