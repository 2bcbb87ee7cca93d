"""Days of the ledger that are closed, and the digests of those that are sealed."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE billing.closed_days (
        day DATE NOT NULL,
        closed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_closed_days PRIMARY KEY (day)
    )
    """,
    """
    CREATE TABLE billing.sealed_days (
        day DATE NOT NULL,
        form INTEGER NOT NULL,
        rows BIGINT NOT NULL,
        previous_digest BYTEA NOT NULL,
        digest BYTEA NOT NULL,
        sealed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_sealed_days PRIMARY KEY (day)
    )
    """,
    # The transaction gets its number before it looks, and each statement of the function looks anew.
    """
    CREATE FUNCTION billing.is_day_open(recorded DATE) RETURNS BOOLEAN LANGUAGE plpgsql VOLATILE AS $$
    DECLARE
        number xid8;
        last DATE;
    BEGIN
        number := pg_current_xact_id();
        SELECT max(day) INTO last FROM billing.closed_days;
        RETURN last IS NULL OR recorded > last;
    END
    $$
    """,
    # Rows are appended in the order in which they are recorded, so a summary of each megabyte leads to those of a day.
    "CREATE INDEX ix_transactions_recorded_at ON billing.transactions USING brin (recorded_at)",
    "GRANT SELECT, INSERT ON billing.closed_days, billing.sealed_days TO billing_app",
)


def upgrade() -> None:
    """Makes the tables; what was recorded before is sealed by the job, day by day."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes them away again, with the seals."""
    op.execute("DROP INDEX billing.ix_transactions_recorded_at")
    op.execute("DROP FUNCTION billing.is_day_open")
    op.execute("DROP TABLE billing.closed_days, billing.sealed_days")
