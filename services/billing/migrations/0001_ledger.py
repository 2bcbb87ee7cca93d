"""Accounts, ledger, prices, directory, outbox and quarantine, with what the application role may do to each."""

from alembic import op

from services.billing import tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLE = "billing_app"

# The ledger is append-only: not even a fault of the service can change or remove a row.
APPEND_ONLY = ("transactions", "audit_log", "prices", "rates", "subscription_budgets")
CHANGEABLE = (
    "mandates",
    "accounts",
    "dimensions",
    "rollups",
    "price_book",
    "directory_mandates",
    "directory_users",
    "directory_members",
    "provider_permissions",
    "quarantine",
)
TRANSIENT = ("outbox", "uncharged_events")


def upgrade() -> None:
    """Makes the tables as this revision knows them."""
    tables.metadata.create_all(op.get_bind())
    op.execute("INSERT INTO billing.price_book (revision) VALUES (0)")
    for table in (*APPEND_ONLY, *CHANGEABLE, *TRANSIENT):
        op.execute(f"GRANT SELECT, INSERT ON billing.{table} TO {ROLE}")
    for table in (*CHANGEABLE, *TRANSIENT):
        op.execute(f"GRANT UPDATE ON billing.{table} TO {ROLE}")
    for table in TRANSIENT:
        op.execute(f"GRANT DELETE ON billing.{table} TO {ROLE}")
    op.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA billing TO {ROLE}")


def downgrade() -> None:
    """Takes everything away again; only for an empty system."""
    tables.metadata.drop_all(op.get_bind())
