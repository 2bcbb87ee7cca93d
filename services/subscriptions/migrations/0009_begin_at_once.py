"""What waited for a predecessor that ended early can be asked to be charged from then on."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ACTIONS = ("checkout", "end_at_period_end", "resume", "cancel")


def upgrade() -> None:
    """Admits one more action; what was asked before is one of the others."""
    _admit((*ACTIONS, "begin"))


def downgrade() -> None:
    """Admits those of before; what was asked meanwhile is forgotten, and Stripe ends each trial by itself."""
    op.execute("DELETE FROM subscriptions.stripe_requests WHERE action = 'begin'")
    _admit(ACTIONS)


def _admit(actions: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{action}'" for action in actions)
    op.execute("ALTER TABLE subscriptions.stripe_requests DROP CONSTRAINT ck_stripe_requests_action")
    op.execute(
        "ALTER TABLE subscriptions.stripe_requests ADD CONSTRAINT ck_stripe_requests_action"
        f" CHECK (action IN ({listed})) NOT VALID"
    )
    op.execute("ALTER TABLE subscriptions.stripe_requests VALIDATE CONSTRAINT ck_stripe_requests_action")
