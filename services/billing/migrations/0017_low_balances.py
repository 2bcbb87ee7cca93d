"""Which balances are low, how often they became so and when that was mailed; automatic recharges."""

from alembic import op

revision = "0017"
down_revision = "0015"
branch_labels = None
depends_on = None

THRESHOLD = """
    trunc(CASE WHEN m.warning_threshold_percent BETWEEN 0 AND 100 THEN m.warning_threshold_percent ELSE 0 END
          * CASE m.billing_model WHEN 'CREDIT_POSTPAY' THEN a.credit_limit ELSE a.balance_after_last_credit END * 0.01)
"""
STATEMENTS = (
    """
    ALTER TABLE billing.accounts
        ADD COLUMN low BOOLEAN NOT NULL DEFAULT false,
        ADD COLUMN crossings BIGINT NOT NULL DEFAULT 0,
        ADD COLUMN last_warning_mail_at TIMESTAMP WITH TIME ZONE
    """,
    # What is low already is no news: it is only noted, so that its next fall is told.
    f"""
    UPDATE billing.accounts a SET low = true FROM billing.mandates m
     WHERE m.no = a.mandate_no AND a.type IN ('MANDATE', 'USER') AND a.seq > 0
       AND CASE m.billing_model WHEN 'UNLIMITED' THEN false
                WHEN 'CREDIT_POSTPAY' THEN a.type = 'MANDATE' AND a.credit_limit IS NOT NULL
                                           AND a.credit_limit::numeric + a.balance <= {THRESHOLD}
                WHEN 'PREPAY_USER' THEN a.type = 'USER' AND a.balance <= {THRESHOLD}
                ELSE a.type = 'MANDATE' AND a.balance <= {THRESHOLD} END
    """,
    "CREATE INDEX ix_accounts_low ON billing.accounts (mandate_no, no) WHERE low",
    "ALTER TABLE billing.mandates ADD COLUMN recharge_failures INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX ix_mandates_auto_recharge ON billing.mandates (no) WHERE auto_recharge_enabled",
    """
    CREATE TABLE billing.recharges (
        mandate_no INTEGER NOT NULL,
        id UUID NOT NULL,
        account_no BIGINT NOT NULL,
        amount BIGINT NOT NULL,
        units INTEGER NOT NULL,
        month DATE NOT NULL,
        crossing BIGINT NOT NULL,
        state TEXT NOT NULL DEFAULT 'PENDING',
        requested_at TIMESTAMP WITH TIME ZONE NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
        settled_at TIMESTAMP WITH TIME ZONE,
        cause TEXT,
        CONSTRAINT pk_recharges PRIMARY KEY (mandate_no, id),
        CONSTRAINT ck_recharges_amount CHECK (amount > 0 AND units > 0),
        CONSTRAINT ck_recharges_state CHECK (state IN ('PENDING', 'SUCCEEDED', 'FAILED', 'EXPIRED')),
        CONSTRAINT ck_recharges_settled CHECK ((settled_at IS NULL) = (state = 'PENDING'))
    )
    """,
    """
    CREATE UNIQUE INDEX uq_recharges_pending ON billing.recharges (mandate_no, account_no) WHERE state = 'PENDING'
    """,
    "CREATE INDEX ix_recharges_due ON billing.recharges (expires_at) WHERE settled_at IS NULL",
    "CREATE INDEX ix_recharges_account ON billing.recharges (mandate_no, account_no, settled_at)",
    "CREATE INDEX ix_recharges_month ON billing.recharges (mandate_no, month)",
    # What was asked for stays as it was; only what became of it changes.
    "GRANT SELECT, INSERT ON billing.recharges TO billing_app",
    "GRANT UPDATE (state, settled_at, cause) ON billing.recharges TO billing_app",
)


def upgrade() -> None:
    """Makes the table, and notes which balances are low by the rule that is applied from now on."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes it all away again; what is low, and what was recharged, is not known any more."""
    op.execute("DROP TABLE billing.recharges")
    op.execute("DROP INDEX billing.ix_mandates_auto_recharge")
    op.execute("ALTER TABLE billing.mandates DROP COLUMN recharge_failures")
    op.execute("DROP INDEX billing.ix_accounts_low")
    op.execute("ALTER TABLE billing.accounts DROP COLUMN low, DROP COLUMN crossings, DROP COLUMN last_warning_mail_at")
