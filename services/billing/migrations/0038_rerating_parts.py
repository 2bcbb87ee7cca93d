"""A re-rating is carried out in parts, by several workers at once: each part has the mandates whose number leaves its
own when it is divided by four."""

from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE billing.rerating_parts (
        rerating_id UUID NOT NULL,
        part INTEGER NOT NULL,
        mandate_no INTEGER NOT NULL DEFAULT 0,
        occurred_at TIMESTAMP WITH TIME ZONE,
        event_id UUID,
        not_priced JSONB NOT NULL DEFAULT '[]',
        finished_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_rerating_parts PRIMARY KEY (rerating_id, part),
        CONSTRAINT ck_rerating_parts_position CHECK ((occurred_at IS NULL) = (event_id IS NULL)),
        CONSTRAINT ck_rerating_parts_part CHECK (part BETWEEN 0 AND 3)
    )
    """,
    "CREATE INDEX ix_rerating_parts_running ON billing.rerating_parts (rerating_id) WHERE finished_at IS NULL",
    # One that runs goes on where it is: what lies before its position does so in each of its parts.
    """
    INSERT INTO billing.rerating_parts (rerating_id, part, mandate_no, occurred_at, event_id, not_priced, finished_at)
    SELECT id, part, mandate_no, occurred_at, event_id, CASE part WHEN 0 THEN not_priced ELSE '[]' END, finished_at
      FROM billing.reratings CROSS JOIN generate_series(0, 3) AS part
    """,
    "DROP INDEX billing.ix_reratings_running",
    """
    ALTER TABLE billing.reratings
        DROP COLUMN mandate_no, DROP COLUMN occurred_at, DROP COLUMN event_id, DROP COLUMN not_priced
    """,
    "GRANT SELECT, INSERT ON billing.rerating_parts TO billing_app",
    """
    GRANT UPDATE (mandate_no, occurred_at, event_id, not_priced, finished_at) ON billing.rerating_parts TO billing_app
    """,
)

# A part may be ahead of the others; what it has corrected is found corrected by whoever looks at it once more.
BACK = (
    """
    ALTER TABLE billing.reratings
        ADD COLUMN mandate_no INTEGER NOT NULL DEFAULT 0,
        ADD COLUMN occurred_at TIMESTAMP WITH TIME ZONE,
        ADD COLUMN event_id UUID,
        ADD COLUMN not_priced JSONB NOT NULL DEFAULT '[]',
        ADD CONSTRAINT ck_reratings_position CHECK ((occurred_at IS NULL) = (event_id IS NULL))
    """,
    """
    UPDATE billing.reratings r SET not_priced = of_parts.counts
      FROM (SELECT rerating_id, jsonb_agg(counted) AS counts FROM billing.rerating_parts
             CROSS JOIN LATERAL jsonb_array_elements(not_priced) AS counted GROUP BY rerating_id) AS of_parts
     WHERE r.id = of_parts.rerating_id AND r.finished_at IS NOT NULL
    """,
    # One that runs begins anew.
    """
    DELETE FROM billing.rerated_mandates m USING billing.reratings r
     WHERE r.id = m.rerating_id AND r.finished_at IS NULL
    """,
    "DROP TABLE billing.rerating_parts",
    "CREATE INDEX ix_reratings_running ON billing.reratings (started_at) WHERE finished_at IS NULL",
    "GRANT UPDATE (mandate_no, occurred_at, event_id, not_priced) ON billing.reratings TO billing_app",
)


def upgrade() -> None:
    """Makes the parts of the re-ratings that there are."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Brings their one position back."""
    for statement in BACK:
        op.execute(statement)
