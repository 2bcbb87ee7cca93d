"""Storage in use, as feature instances report it, and the periods of subscriptions in which it is charged."""

from alembic import op

revision = "0018"
down_revision = "0015"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE billing.storage_reports (
        mandate_no INTEGER NOT NULL,
        event_id UUID NOT NULL,
        feature_instance_id TEXT COLLATE "C" NOT NULL,
        bytes_in_use BIGINT NOT NULL,
        occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
        recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_storage_reports PRIMARY KEY (mandate_no, event_id)
    )
    """,
    """
    CREATE INDEX ix_storage_reports_in_order
        ON billing.storage_reports (mandate_no, feature_instance_id, occurred_at, event_id) INCLUDE (bytes_in_use)
    """,
    """
    CREATE TABLE billing.storage_periods (
        mandate_no INTEGER NOT NULL,
        subscription_id UUID NOT NULL,
        period_start TIMESTAMP WITH TIME ZONE NOT NULL,
        period_end TIMESTAMP WITH TIME ZONE,
        version BIGINT NOT NULL,
        plan_key TEXT NOT NULL,
        included_mb BIGINT,
        price_per_gb_month NUMERIC,
        opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
        peak_bytes NUMERIC,
        months NUMERIC,
        closed_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_storage_periods PRIMARY KEY (mandate_no, subscription_id, period_start),
        CONSTRAINT ck_storage_periods_closed CHECK (
            (closed_at IS NULL) = (peak_bytes IS NULL) AND (closed_at IS NULL) = (months IS NULL)
            AND (closed_at IS NULL OR period_end IS NOT NULL)
        )
    )
    """,
    "GRANT SELECT, INSERT ON billing.storage_reports TO billing_app",
    "GRANT SELECT, INSERT ON billing.storage_periods TO billing_app",
    # Where a subscription is and when its period began stays as it is.
    """
    GRANT UPDATE (period_end, version, plan_key, included_mb, price_per_gb_month, peak_bytes, months, closed_at)
        ON billing.storage_periods TO billing_app
    """,
    # Storage without a cost waited for a price until now. It is looked at again, and is a report.
    """
    UPDATE billing.price_book SET revision = revision + 1
     WHERE EXISTS (SELECT 1 FROM billing.unposted_events WHERE reason = 'NO_PRICE' AND provider IS NULL)
    """,
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes them away again; the events of reports stay claimed, and what was charged stays charged."""
    op.execute("DROP TABLE billing.storage_periods")
    op.execute("DROP TABLE billing.storage_reports")
