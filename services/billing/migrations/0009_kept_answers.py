"""Answers to changes that carry an idempotency key, so that a repeat gets the first one's."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.execute(
        """
        CREATE TABLE billing.kept_answers (
            mandate_no integer NOT NULL,
            action text NOT NULL,
            actor text NOT NULL,
            idempotency_key text COLLATE "C" NOT NULL,
            digest bytea NOT NULL,
            answer jsonb,
            at timestamptz NOT NULL,
            CONSTRAINT pk_kept_answers PRIMARY KEY (mandate_no, action, actor, idempotency_key)
        )
        """
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON billing.kept_answers TO billing_app")


def downgrade() -> None:
    """Drops the table."""
    op.execute("DROP TABLE billing.kept_answers")
