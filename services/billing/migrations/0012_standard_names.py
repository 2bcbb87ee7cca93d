"""The standard terms for tables and columns: unpublished, unposted, member, posted and contra account, remainder."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Renaming touches the catalogue alone: no row is written, and grants and plans follow the table.
TABLES = (("untold_balances", "unpublished_balances"), ("uncharged_events", "unposted_events"))
COLUMNS = (
    ("accounts", "carry", "rounding_remainder"),
    ("accounts", "level", "balance_after_last_credit"),
    ("mandates", "has_uncharged", "has_unposted"),
    ("rollups", "account_no", "member_account_no"),
    ("transactions", "account_no", "member_account_no"),
    ("transactions", "counter", "contra_account"),
    ("transactions", "moved_account_no", "posted_account_no"),
)
# Under the tables' new names; the index of a key is renamed with it.
CONSTRAINTS = (
    ("unpublished_balances", "pk_untold_balances", "pk_unpublished_balances"),
    ("unposted_events", "pk_uncharged_events", "pk_unposted_events"),
    (
        "transactions",
        "uq_transactions_mandate_no_moved_account_no_seq",
        "uq_transactions_mandate_no_posted_account_no_seq",
    ),
)
INDEXES = (("ix_uncharged_events_parked", "ix_unposted_events_parked"),)


def upgrade() -> None:
    """Gives the new names; every row stays as it is."""
    for old, new in TABLES:
        op.execute(f"ALTER TABLE billing.{old} RENAME TO {new}")
    for table, old, new in COLUMNS:
        op.execute(f"ALTER TABLE billing.{table} RENAME COLUMN {old} TO {new}")
    for table, old, new in CONSTRAINTS:
        op.execute(f"ALTER TABLE billing.{table} RENAME CONSTRAINT {old} TO {new}")
    for old, new in INDEXES:
        op.execute(f"ALTER INDEX billing.{old} RENAME TO {new}")


def downgrade() -> None:
    """Gives the old names back."""
    for old, new in INDEXES:
        op.execute(f"ALTER INDEX billing.{new} RENAME TO {old}")
    for table, old, new in CONSTRAINTS:
        op.execute(f"ALTER TABLE billing.{table} RENAME CONSTRAINT {new} TO {old}")
    for table, old, new in COLUMNS:
        op.execute(f"ALTER TABLE billing.{table} RENAME COLUMN {new} TO {old}")
    for old, new in TABLES:
        op.execute(f"ALTER TABLE billing.{new} RENAME TO {old}")
