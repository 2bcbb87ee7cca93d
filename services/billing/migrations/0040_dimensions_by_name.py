"""The primary key of dimensions begins with their number, so that only the index of names begins with the mandate.

Where mandates had few dimensions so far, the planner took the primary key for a look-up by name, too, and each name of
a mandate that had got many meanwhile was compared with all of them.
"""

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

RENEWED = (
    "ALTER TABLE billing.dimensions DROP CONSTRAINT pk_dimensions, ADD CONSTRAINT pk_dimensions PRIMARY KEY ({columns})"
)


def upgrade() -> None:
    """Makes the index anew; the table has a row for each combination of names, which is little beside the ledger."""
    op.execute(RENEWED.format(columns="no, mandate_no"))


def downgrade() -> None:
    """Gives the order of before back."""
    op.execute(RENEWED.format(columns="mandate_no, no"))
