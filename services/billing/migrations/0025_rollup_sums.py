"""Sums of the rollups over members, of mandates that have many of them."""

from alembic import op

revision = "0025"
down_revision = "0023"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE billing.mandates ADD COLUMN summed_until DATE",
    "CREATE INDEX ix_mandates_summed_until ON billing.mandates (no) WHERE summed_until IS NOT NULL",
    """
    CREATE TABLE billing.rollup_sums (
        mandate_no INTEGER NOT NULL,
        period TEXT NOT NULL,
        first_day DATE NOT NULL,
        dimension_no INTEGER NOT NULL,
        cost NUMERIC NOT NULL,
        count BIGINT NOT NULL,
        CONSTRAINT pk_rollup_sums PRIMARY KEY (mandate_no, period, first_day, dimension_no),
        CONSTRAINT ck_rollup_sums_period CHECK (period IN ('day', 'month'))
    ) WITH (fillfactor = 70)
    """,
    "GRANT SELECT, INSERT, UPDATE ON billing.rollup_sums TO billing_app",
)


def upgrade() -> None:
    """Makes the table; a job finds the mandates that have many rollups, and fills it."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes it away again; statistics read the rollups then."""
    op.execute("DROP TABLE billing.rollup_sums")
    op.execute("DROP INDEX billing.ix_mandates_summed_until")
    op.execute("ALTER TABLE billing.mandates DROP COLUMN summed_until")
