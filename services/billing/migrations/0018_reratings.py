"""Re-ratings: charges priced again, and the corrections of their prices."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE billing.reratings (
        id UUID NOT NULL,
        from_time TIMESTAMP WITH TIME ZONE NOT NULL,
        to_time TIMESTAMP WITH TIME ZONE NOT NULL,
        provider TEXT,
        model TEXT,
        started_at TIMESTAMP WITH TIME ZONE NOT NULL,
        started_by_user_id TEXT,
        finished_at TIMESTAMP WITH TIME ZONE,
        mandate_no INTEGER NOT NULL DEFAULT 0,
        occurred_at TIMESTAMP WITH TIME ZONE,
        event_id UUID,
        not_priced JSONB NOT NULL DEFAULT '[]',
        CONSTRAINT pk_reratings PRIMARY KEY (id),
        CONSTRAINT ck_reratings_times CHECK (to_time > from_time),
        CONSTRAINT ck_reratings_position CHECK ((occurred_at IS NULL) = (event_id IS NULL))
    )
    """,
    "CREATE INDEX ix_reratings_running ON billing.reratings (started_at) WHERE finished_at IS NULL",
    """
    CREATE TABLE billing.rerated_mandates (
        rerating_id UUID NOT NULL,
        mandate_no INTEGER NOT NULL,
        charges BIGINT NOT NULL,
        corrected BIGINT NOT NULL,
        price_before NUMERIC NOT NULL,
        price_after NUMERIC NOT NULL,
        CONSTRAINT pk_rerated_mandates PRIMARY KEY (rerating_id, mandate_no)
    )
    """,
    """
    CREATE TABLE billing.price_corrections (
        mandate_no INTEGER NOT NULL,
        event_id UUID NOT NULL,
        number INTEGER NOT NULL,
        correction_id UUID NOT NULL,
        price NUMERIC NOT NULL,
        rerating_id UUID NOT NULL,
        CONSTRAINT pk_price_corrections PRIMARY KEY (mandate_no, event_id, number)
    )
    """,
    "GRANT SELECT, INSERT ON billing.reratings TO billing_app",
    # What was asked for stays as it was; only how far it is changes.
    "GRANT UPDATE (finished_at, mandate_no, occurred_at, event_id, not_priced) ON billing.reratings TO billing_app",
    "GRANT SELECT, INSERT ON billing.rerated_mandates TO billing_app",
    "GRANT UPDATE (charges, corrected, price_before, price_after) ON billing.rerated_mandates TO billing_app",
    # A correction is money: not even a fault of the service can change or remove it.
    "GRANT SELECT, INSERT ON billing.price_corrections TO billing_app",
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes them away again; only for a system without corrected prices."""
    for table in ("price_corrections", "rerated_mandates", "reratings"):
        op.execute(f"DROP TABLE billing.{table}")
