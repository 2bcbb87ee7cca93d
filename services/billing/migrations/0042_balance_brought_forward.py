"""An invoice may have a line of what is owed otherwise: the balance brought forward."""

from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

KINDS = ("USAGE", "STORAGE", "CORRECTION", "BUDGET", "PROMOTION", "CREDIT")


def _allow(kinds: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    op.execute(
        "ALTER TABLE billing.invoice_lines DROP CONSTRAINT ck_invoice_lines_kind,"
        f" ADD CONSTRAINT ck_invoice_lines_kind CHECK (kind IN ({listed}))"
    )


def upgrade() -> None:
    """Allows the kind."""
    _allow((*KINDS, "BALANCE"))


def downgrade() -> None:
    """Fails where an invoice has such a line: one that is issued is never changed."""
    _allow(KINDS)
