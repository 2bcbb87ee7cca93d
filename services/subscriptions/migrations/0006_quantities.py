"""What subscriptions are charged for at Stripe, and what was asked to be."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table; nothing is charged at Stripe so far."""
    op.execute(
        """
        CREATE TABLE subscriptions.quantities (
            subscription_id uuid NOT NULL CONSTRAINT pk_quantities PRIMARY KEY,
            mandate_id text COLLATE "C" NOT NULL,
            version bigint NOT NULL,
            live boolean NOT NULL,
            requested_members integer,
            requested_feature_instances integer,
            requested_at timestamptz,
            tries integer NOT NULL,
            charged_members integer,
            charged_feature_instances integer,
            check_at timestamptz,
            held_until timestamptz,
            CONSTRAINT fk_quantities_subscription_id FOREIGN KEY (subscription_id)
                REFERENCES subscriptions.subscriptions (id)
        )
        """
    )
    op.execute("CREATE INDEX ix_quantities_mandate_id ON subscriptions.quantities (mandate_id)")
    op.execute("CREATE INDEX ix_quantities_check_at ON subscriptions.quantities (check_at) WHERE check_at IS NOT NULL")
    op.execute("GRANT SELECT, INSERT, UPDATE ON subscriptions.quantities TO subscriptions_app")


def downgrade() -> None:
    """Drops the table."""
    op.execute("DROP TABLE subscriptions.quantities")
