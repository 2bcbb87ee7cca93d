"""Prices and rates that nothing can be priced by are set aside: kept as they are, with the reason, and passed over."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

OUT_OF_TIME = "NOT (valid_from >= '2000-01-01T00:00:00Z' AND valid_from < '2200-01-01T00:00:00Z')"

STATEMENTS = (
    "ALTER TABLE billing.prices ADD COLUMN set_aside TEXT",
    "ALTER TABLE billing.rates ADD COLUMN set_aside TEXT",
    # Every comparison with NaN and infinity is defined here: both are larger than any number.
    """
    UPDATE billing.rates SET set_aside = 'rate: a rate must be more than zero and less than a million'
     WHERE NOT (rate > 0 AND rate < 1000000)
    """,
    "UPDATE billing.rates SET set_aside = 'CHF is always 1 CHF and has no rate' WHERE currency = 'CHF'",
    f"UPDATE billing.prices SET set_aside = 'valid_from: a time from 2000 to 2199 is expected' WHERE {OUT_OF_TIME}",
    f"UPDATE billing.rates SET set_aside = 'valid_from: a time from 2000 to 2199 is expected' WHERE {OUT_OF_TIME}",
    # Every process reads prices and rates again, and what waits for one is looked at again.
    """
    UPDATE billing.price_book SET revision = revision + 1
     WHERE EXISTS (SELECT 1 FROM billing.prices WHERE set_aside IS NOT NULL)
        OR EXISTS (SELECT 1 FROM billing.rates WHERE set_aside IS NOT NULL)
    """,
)


def upgrade() -> None:
    """Adds the mark, and sets it where the database itself can see the fault."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes the mark away again."""
    op.execute("ALTER TABLE billing.rates DROP COLUMN set_aside")
    op.execute("ALTER TABLE billing.prices DROP COLUMN set_aside")
