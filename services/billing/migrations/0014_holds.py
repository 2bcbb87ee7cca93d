"""Holds: amounts that are reserved on an account until they are captured, voided or expired."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Nothing was held before, so every balance that was published keeps its number.
    "ALTER TABLE billing.accounts ADD COLUMN held_changes BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE billing.accounts ADD CONSTRAINT ck_accounts_held CHECK (held >= 0)",
    """
    CREATE TABLE billing.holds (
        mandate_no INTEGER NOT NULL,
        id UUID NOT NULL,
        account_no BIGINT NOT NULL,
        member_account_no BIGINT NOT NULL,
        amount BIGINT NOT NULL,
        state TEXT NOT NULL DEFAULT 'OPEN',
        provider TEXT,
        model TEXT,
        feature_instance_id TEXT,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        created_by TEXT NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
        settled_at TIMESTAMP WITH TIME ZONE,
        settled_by UUID,
        CONSTRAINT pk_holds PRIMARY KEY (mandate_no, id),
        CONSTRAINT ck_holds_amount CHECK (amount >= 0),
        CONSTRAINT ck_holds_state CHECK (state IN ('OPEN', 'CAPTURED', 'VOIDED', 'EXPIRED')),
        CONSTRAINT ck_holds_settled CHECK (
            (settled_at IS NOT NULL) = (state <> 'OPEN') AND (settled_by IS NOT NULL) = (state = 'CAPTURED')
        ),
        CONSTRAINT ck_holds_expiry CHECK (expires_at > created_at)
    ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)
    """,
    """
    CREATE INDEX ix_holds_open ON billing.holds (mandate_no, account_no, expires_at) WHERE state = 'OPEN'
    """,
    """
    CREATE INDEX ix_holds_due ON billing.holds (expires_at) WHERE settled_at IS NULL
    """,
    "GRANT SELECT, INSERT ON billing.holds TO billing_app",
    # What is reserved for whom stays as it was; only where it stands and what became of it change.
    "GRANT UPDATE (account_no, state, settled_at, settled_by) ON billing.holds TO billing_app",
)


def upgrade() -> None:
    """Makes the table, and counts how often the held amount of an account has changed."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes both away again; what is held then is held no longer."""
    op.execute("DROP TABLE billing.holds")
    op.execute("ALTER TABLE billing.accounts DROP CONSTRAINT ck_accounts_held")
    op.execute("UPDATE billing.accounts SET held = 0 WHERE held <> 0")
    op.execute("ALTER TABLE billing.accounts DROP COLUMN held_changes")
