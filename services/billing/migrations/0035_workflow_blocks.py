"""Workflows are searched by blocks of text, which a charge writes by the account, and no more by an index."""

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

STATEMENTS = (
    # The whole ledger is read, which may take longer than a statement of a migration otherwise may.
    "SET LOCAL statement_timeout = 0",
    """
    CREATE TABLE billing.workflow_blocks (
        mandate_no INTEGER NOT NULL,
        account_no BIGINT NOT NULL,
        first_seq BIGINT NOT NULL,
        last_seq BIGINT NOT NULL,
        workflow_ids TEXT COLLATE "C" NOT NULL,
        CONSTRAINT pk_workflow_blocks PRIMARY KEY (mandate_no, account_no, first_seq)
    )
    """,
    # Reading a text that was compressed by lz4 takes less than half of the time; some servers are built without it.
    """
    DO $$
    BEGIN
        IF 'lz4' = ANY (SELECT unnest(enumvals) FROM pg_settings WHERE name = 'default_toast_compression') THEN
            ALTER TABLE billing.workflow_blocks ALTER COLUMN workflow_ids SET COMPRESSION lz4;
        END IF;
    END
    $$
    """,
    # First, because nothing is charged from then on until the blocks are there.
    "DROP INDEX billing.ix_transactions_workflows",
    """
    INSERT INTO billing.workflow_blocks (mandate_no, account_no, first_seq, last_seq, workflow_ids)
    SELECT mandate_no, posted_account_no, min(seq), max(seq), string_agg(DISTINCT workflow_id, chr(10))
      FROM billing.transactions WHERE workflow_id IS NOT NULL GROUP BY mandate_no, posted_account_no, seq / 200
    """,
    "GRANT SELECT, INSERT, DELETE ON billing.workflow_blocks TO billing_app",
)


def upgrade() -> None:
    """Makes the blocks of the rows that there are, and takes the index away."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Brings the index back; the rows have the workflows."""
    op.execute("DROP TABLE billing.workflow_blocks")
    op.execute(
        "CREATE INDEX ix_transactions_workflows ON billing.transactions (mandate_no, workflow_id)"
        " WHERE workflow_id IS NOT NULL"
    )
