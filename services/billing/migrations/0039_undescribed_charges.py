"""Of each dimension it is kept, too, whether it has charges without a description, as an empty one."""

from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

STATEMENTS = (
    # The whole ledger is read, which may take longer than a statement of a migration otherwise may.
    "SET LOCAL statement_timeout = 0",
    # Workers of this release, which keep them, wait until these are there; earlier ones are stopped before.
    "LOCK TABLE billing.usage_descriptions IN SHARE MODE",
    """
    INSERT INTO billing.usage_descriptions (mandate_no, dimension_no, description)
    SELECT DISTINCT mandate_no, dimension_no, '' FROM billing.transactions AS t
     WHERE coalesce(description, '') = '' AND contra_account = 'REVENUE' AND transaction_type = 'DEBIT'
       AND reference_type = 'WORKFLOW'
       AND NOT EXISTS (SELECT FROM billing.usage_descriptions AS d WHERE d.mandate_no = t.mandate_no
                          AND d.dimension_no = t.dimension_no AND coalesce(d.description, '') = '')
    """,
)
BACK = """
    DELETE FROM billing.usage_descriptions AS d
     WHERE description = ''
       AND NOT EXISTS (SELECT FROM billing.transactions AS t WHERE t.mandate_no = d.mandate_no
                          AND t.dimension_no = d.dimension_no AND t.description = '' AND contra_account = 'REVENUE'
                          AND transaction_type = 'DEBIT' AND reference_type = 'WORKFLOW')
"""


def upgrade() -> None:
    """Looks at the charges that there are."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Before, an empty description was kept only where a publisher gave one, and those are kept."""
    # The whole ledger is read here, too.
    op.execute("SET LOCAL statement_timeout = 0")
    op.execute(BACK)
