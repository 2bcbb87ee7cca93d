"""Events of the webhook and requests are forgotten when they are old, which the application does."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ROLE = "payments_app"
TABLES = ("webhook_events", "stripe_requests")


def upgrade() -> None:
    """Lets the application delete them, and find the oldest."""
    for table in TABLES:
        op.execute(f"CREATE INDEX ix_{table}_received_at ON payments.{table} (received_at)")
        op.execute(f"GRANT DELETE ON payments.{table} TO {ROLE}")


def downgrade() -> None:
    """Takes both away again."""
    for table in TABLES:
        op.execute(f"REVOKE DELETE ON payments.{table} FROM {ROLE}")
        op.execute(f"DROP INDEX payments.ix_{table}_received_at")
