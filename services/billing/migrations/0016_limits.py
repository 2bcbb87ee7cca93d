"""Limits on what members, feature instances, providers and models cost in a day or a month, and what counts towards
them."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE billing.mandates ADD COLUMN limits_since DATE",
    "CREATE INDEX ix_mandates_limits_since ON billing.mandates (no) WHERE limits_since IS NOT NULL",
    """
    CREATE TABLE billing.limits (
        mandate_no INTEGER NOT NULL,
        kind TEXT NOT NULL,
        key TEXT COLLATE "C" NOT NULL,
        period TEXT NOT NULL,
        amount BIGINT NOT NULL,
        held NUMERIC NOT NULL DEFAULT '0',
        CONSTRAINT pk_limits PRIMARY KEY (mandate_no, kind, key, period),
        CONSTRAINT ck_limits_kind CHECK (kind IN ('member', 'feature', 'provider', 'model')),
        CONSTRAINT ck_limits_period CHECK (period IN ('day', 'month')),
        CONSTRAINT ck_limits_amount CHECK (amount >= 0)
    ) WITH (fillfactor = 70)
    """,
    """
    CREATE TABLE billing.limit_costs (
        mandate_no INTEGER NOT NULL,
        kind TEXT NOT NULL,
        key TEXT COLLATE "C" NOT NULL,
        day DATE NOT NULL,
        cost NUMERIC NOT NULL,
        CONSTRAINT pk_limit_costs PRIMARY KEY (mandate_no, kind, key, day)
    ) WITH (fillfactor = 70)
    """,
    # A list of limits is replaced as a whole, and what counts towards them is then summed anew.
    "GRANT SELECT, INSERT, DELETE ON billing.limits TO billing_app",
    "GRANT UPDATE (held) ON billing.limits TO billing_app",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON billing.limit_costs TO billing_app",
)


def upgrade() -> None:
    """Makes the tables; no mandate has limits yet."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes them away again; nothing is limited then."""
    op.execute("DROP TABLE billing.limit_costs")
    op.execute("DROP TABLE billing.limits")
    op.execute("DROP INDEX billing.ix_mandates_limits_since")
    op.execute("ALTER TABLE billing.mandates DROP COLUMN limits_since")
