"""A payment that counted as credited by the system before this one may be told of once Stripe says that it arrived
later."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ROLE = "payments_app"


def upgrade() -> None:
    """Lets the application note that it told of a payment; all else of one stays as it was added."""
    op.execute(f"GRANT UPDATE (published) ON payments.payments TO {ROLE}")


def downgrade() -> None:
    """Takes that away again."""
    op.execute(f"REVOKE UPDATE (published) ON payments.payments FROM {ROLE}")
