"""Ids of the ledger's own movements apart from those of publishers, subscriptions by themselves, payments' marks."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Usage is named by its publisher; every other row so far has an id that was derived or drawn here.
    "ALTER TABLE billing.transactions ADD COLUMN own BOOLEAN DEFAULT false NOT NULL",
    "UPDATE billing.transactions SET own = true WHERE counter <> 'REVENUE'",
    "ALTER TABLE billing.transactions DROP CONSTRAINT pk_transactions",
    "ALTER TABLE billing.transactions ADD CONSTRAINT pk_transactions PRIMARY KEY (mandate_no, event_id, own)",
    # What waits is usage, or a payment without a rate: the kept event says which. Free usage keeps no event.
    "ALTER TABLE billing.uncharged_events ADD COLUMN own BOOLEAN DEFAULT false NOT NULL",
    """
    UPDATE billing.uncharged_events SET own = true
     WHERE CASE WHEN event IS JSON OBJECT
                THEN event::jsonb ->> 'type' = 'ch.rappen.payment.succeeded.v1' ELSE false END
    """,
    "ALTER TABLE billing.uncharged_events DROP CONSTRAINT pk_uncharged_events",
    "ALTER TABLE billing.uncharged_events ADD CONSTRAINT pk_uncharged_events PRIMARY KEY (mandate_no, event_id, own)",
    "ALTER TABLE billing.mandates ADD COLUMN has_uncharged BOOLEAN DEFAULT false NOT NULL",
    """
    UPDATE billing.mandates m SET has_uncharged = true
     WHERE EXISTS (SELECT 1 FROM billing.uncharged_events u WHERE u.mandate_no = m.no AND NOT u.own)
    """,
    """
    CREATE TABLE billing.mandate_subscriptions (
        mandate_no INTEGER NOT NULL,
        subscription_id UUID NOT NULL,
        version BIGINT NOT NULL,
        operative BOOLEAN NOT NULL,
        was_operative BOOLEAN NOT NULL,
        plan_key TEXT NOT NULL,
        markup_percent NUMERIC,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_mandate_subscriptions PRIMARY KEY (mandate_no, subscription_id)
    )
    """,
    # What is known of the past is the subscription in force. It is dated now: whatever follows it will be told later,
    # and what was before it, and is told once more, was earlier.
    """
    INSERT INTO billing.mandate_subscriptions
           (mandate_no, subscription_id, version, operative, was_operative, plan_key, markup_percent, changed_at)
    SELECT no, subscription_id, subscription_version, subscription_operative, true, plan_key, plan_markup_percent,
           now()
      FROM billing.mandates WHERE subscription_id IS NOT NULL
    """,
    """
    CREATE TABLE billing.payment_credits (
        mandate_no INTEGER NOT NULL,
        event_id UUID NOT NULL,
        reference TEXT NOT NULL,
        amount BIGINT NOT NULL,
        digest BYTEA,
        credited_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_payment_credits PRIMARY KEY (mandate_no, event_id)
    )
    """,
    # Of a credit that was shared, the row of the first account has the id of the whole.
    """
    INSERT INTO billing.payment_credits (mandate_no, event_id, reference, amount, credited_at)
    SELECT DISTINCT ON (mandate_no, reference_id) mandate_no, event_id, reference_id,
           sum(amount) OVER credit, min(recorded_at) OVER credit
      FROM billing.transactions
     WHERE counter = 'PAYMENT_PROVIDER' AND transaction_type = 'CREDIT' AND reference_id IS NOT NULL
    WINDOW credit AS (PARTITION BY mandate_no, reference_id)
     ORDER BY mandate_no, reference_id, moved_account_no
    """,
    # The driver took the first and the last day of the calendar for infinite ones, in rollups but not in the ledger.
    "UPDATE billing.rollups SET day = '0001-01-01' WHERE day = '-infinity'",
    "UPDATE billing.rollups SET day = '9999-12-31' WHERE day = 'infinity'",
    """
    UPDATE billing.transactions SET occurred_at = greatest(occurred_at, '0001-01-01T00:00:00Z'),
                                    period_day = greatest(period_day, '0001-01-01')
     WHERE occurred_at = '-infinity' OR period_day = '-infinity'
    """,
    """
    UPDATE billing.transactions SET occurred_at = least(occurred_at, '9999-12-31T23:59:59.999999Z'),
                                    period_day = least(period_day, '9999-12-31')
     WHERE occurred_at = 'infinity' OR period_day = 'infinity'
    """,
    "UPDATE billing.uncharged_events SET occurred_at = '0001-01-01T00:00:00Z' WHERE occurred_at = '-infinity'",
    "UPDATE billing.uncharged_events SET occurred_at = '9999-12-31T23:59:59.999999Z' WHERE occurred_at = 'infinity'",
    "GRANT SELECT, INSERT, UPDATE ON billing.mandate_subscriptions TO billing_app",
    "GRANT SELECT, INSERT ON billing.payment_credits TO billing_app",
)


def upgrade() -> None:
    """Keeps every row; movements and parked payments are marked as the ledger's own."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes it away again; only for an empty system."""
    op.execute("DROP TABLE billing.payment_credits, billing.mandate_subscriptions")
    op.execute("ALTER TABLE billing.mandates DROP COLUMN has_uncharged")
    for table in ("uncharged_events", "transactions"):
        op.execute(f"ALTER TABLE billing.{table} DROP CONSTRAINT pk_{table}")
        op.execute(f"ALTER TABLE billing.{table} DROP COLUMN own")
        op.execute(f"ALTER TABLE billing.{table} ADD CONSTRAINT pk_{table} PRIMARY KEY (mandate_no, event_id)")
