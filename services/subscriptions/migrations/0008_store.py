"""The feature store: activations and removals on their way, personal mandates, and what of the directory they need."""

from alembic import op

revision = "0008"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE subscriptions.activations (
        instance_id uuid NOT NULL CONSTRAINT pk_activations PRIMARY KEY,
        mandate_id text COLLATE "C" NOT NULL,
        user_id text COLLATE "C" NOT NULL,
        feature_code text COLLATE "C" NOT NULL,
        label_de text NOT NULL,
        label_en text NOT NULL,
        language text NOT NULL,
        subscription_id uuid NOT NULL CONSTRAINT fk_activations_subscription_id
            REFERENCES subscriptions.subscriptions (id),
        price bigint NOT NULL,
        billing_period text NOT NULL,
        paid_at_once boolean NOT NULL,
        state text NOT NULL,
        failure text,
        quantity_version bigint,
        request_key uuid,
        cause text NOT NULL,
        deadline_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL,
        changed_at timestamptz NOT NULL,
        CONSTRAINT ck_activations_state CHECK (state IN
            ('PROVISIONING', 'BILLING', 'ACTIVE', 'ROLLING_BACK', 'ROLLED_BACK')),
        CONSTRAINT ck_activations_failure CHECK (failure IN ('DECLINED', 'UNAVAILABLE', 'TIMED_OUT')),
        CONSTRAINT ck_activations_failed CHECK ((failure IS NULL) = (state IN ('PROVISIONING', 'BILLING', 'ACTIVE')))
    )
    """,
    """
    CREATE UNIQUE INDEX uq_activations_request_key ON subscriptions.activations (request_key)
        WHERE state IN ('PROVISIONING', 'BILLING', 'ACTIVE')
    """,
    """
    CREATE INDEX ix_activations_open ON subscriptions.activations (mandate_id)
        WHERE state IN ('PROVISIONING', 'BILLING', 'ROLLING_BACK')
    """,
    """
    CREATE TABLE subscriptions.removals (
        id uuid NOT NULL CONSTRAINT pk_removals PRIMARY KEY,
        instance_id text COLLATE "C" NOT NULL,
        mandate_id text COLLATE "C" NOT NULL,
        user_id text COLLATE "C" NOT NULL,
        instance_removed boolean NOT NULL,
        cause text NOT NULL,
        requested_at timestamptz NOT NULL,
        done_at timestamptz
    )
    """,
    """
    CREATE UNIQUE INDEX uq_removals_open ON subscriptions.removals (instance_id, user_id) WHERE done_at IS NULL
    """,
    """
    CREATE INDEX ix_removals_open ON subscriptions.removals (mandate_id) WHERE done_at IS NULL
    """,
    """
    CREATE TABLE subscriptions.personal_mandates (
        user_id text COLLATE "C" NOT NULL CONSTRAINT pk_personal_mandates PRIMARY KEY,
        mandate_id text COLLATE "C" NOT NULL CONSTRAINT uq_personal_mandates_mandate_id UNIQUE,
        created_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE subscriptions.directory_users (
        id text COLLATE "C" NOT NULL CONSTRAINT pk_directory_users PRIMARY KEY,
        username text,
        version bigint NOT NULL
    )
    """,
    """
    CREATE TABLE subscriptions.directory_feature_access (
        instance_id text COLLATE "C" NOT NULL,
        user_id text COLLATE "C" NOT NULL,
        mandate_id text COLLATE "C" NOT NULL,
        roles text[] NOT NULL,
        enabled boolean NOT NULL,
        version bigint NOT NULL,
        CONSTRAINT pk_directory_feature_access PRIMARY KEY (instance_id, user_id)
    )
    """,
    """
    CREATE INDEX ix_directory_feature_access_user_id ON subscriptions.directory_feature_access (user_id)
    """,
)
# A user has one personal mandate, ever, so that row can only be added.
GRANTS = {
    "SELECT, INSERT": ("personal_mandates",),
    "SELECT, INSERT, UPDATE": ("activations", "removals", "directory_users", "directory_feature_access"),
}


def upgrade() -> None:
    """Makes the tables and gives the rights."""
    for statement in TABLES:
        op.execute(statement)
    for rights, tables in GRANTS.items():
        for table in tables:
            op.execute(f"GRANT {rights} ON subscriptions.{table} TO subscriptions_app")


def downgrade() -> None:
    """Takes everything away again."""
    for tables in GRANTS.values():
        for table in tables:
            op.execute(f"DROP TABLE subscriptions.{table}")
