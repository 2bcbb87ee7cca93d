"""Charges with a description are found by the index by time alone, as those without one are; which descriptions usage
of a dimension has is kept beside."""

from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

_OTHERS = (
    "contra_account <> 'REVENUE' OR transaction_type <> 'DEBIT' OR reference_type <> 'WORKFLOW'{}"
    " OR reference_id IS NOT NULL OR created_by_user_id IS NOT NULL"
)
STATEMENTS = (
    # The whole ledger is read, which may take longer than a statement of a migration otherwise may.
    "SET LOCAL statement_timeout = 0",
    """
    CREATE TABLE billing.usage_descriptions (
        mandate_no INTEGER NOT NULL,
        dimension_no INTEGER NOT NULL,
        description TEXT,
        CONSTRAINT uq_usage_descriptions UNIQUE NULLS NOT DISTINCT (mandate_no, dimension_no, description)
    )
    """,
    # First, because nothing is charged from then on until the descriptions are there.
    "DROP INDEX billing.ix_transactions_others",
    """
    INSERT INTO billing.usage_descriptions (mandate_no, dimension_no, description)
    SELECT DISTINCT mandate_no, dimension_no, CASE WHEN ways <= 100 THEN description END
      FROM (SELECT *, count(*) OVER (PARTITION BY mandate_no, dimension_no) AS ways
              FROM (SELECT DISTINCT mandate_no, dimension_no, description FROM billing.transactions
                     WHERE description IS NOT NULL AND contra_account = 'REVENUE' AND transaction_type = 'DEBIT'
                       AND reference_type = 'WORKFLOW') AS said) AS counted
    """,
    f"""
    CREATE INDEX ix_transactions_others ON billing.transactions (mandate_no, occurred_at, posted_account_no, seq)
     WHERE {_OTHERS.format("")}
    """,
    "GRANT SELECT, INSERT ON billing.usage_descriptions TO billing_app",
)


def upgrade() -> None:
    """Keeps the descriptions of the charges that there are, and makes the index anew."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Brings the index of before back; the rows have the descriptions."""
    op.execute("DROP TABLE billing.usage_descriptions")
    op.execute("DROP INDEX billing.ix_transactions_others")
    op.execute(
        "CREATE INDEX ix_transactions_others ON billing.transactions (mandate_no, occurred_at, posted_account_no, seq)"
        f" WHERE {_OTHERS.format(' OR description IS NOT NULL')}"
    )
