"""The quantities of a subscription at Stripe: what was asked for last, and what is known to be there."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table; nothing was asked for so far."""
    op.execute(
        """
        CREATE TABLE subscriptions.quantities (
            subscription_id uuid NOT NULL CONSTRAINT pk_quantities PRIMARY KEY
                CONSTRAINT fk_quantities_subscription_id REFERENCES subscriptions.subscriptions (id),
            mandate_id text COLLATE "C" NOT NULL,
            version bigint NOT NULL,
            members bigint NOT NULL,
            feature_instances bigint NOT NULL,
            settled_version bigint NOT NULL,
            settled_members bigint,
            settled_feature_instances bigint,
            requested_at timestamptz NOT NULL
        )
        """
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON subscriptions.quantities TO subscriptions_app")


def downgrade() -> None:
    """Drops it."""
    op.execute("DROP TABLE subscriptions.quantities")
