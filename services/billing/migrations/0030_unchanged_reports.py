"""Reports of storage that say what the one before said have no row but their claim, which is found again where another
report comes between."""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the index of the claims; those of before name no instance, and each has its report."""
    op.execute(
        "CREATE INDEX ix_unposted_events_reports"
        " ON billing.unposted_events (mandate_no, detail, occurred_at, event_id)"
        " WHERE reason = 'FREE' AND detail <> ''"
    )


def downgrade() -> None:
    """Writes a report for each claim that has none, with what the report before it said."""
    op.execute(
        "INSERT INTO billing.storage_reports"
        " (mandate_no, event_id, feature_instance_id, bytes_in_use, occurred_at, recorded_at)"
        " SELECT u.mandate_no, u.event_id, u.detail, before.bytes_in_use, u.occurred_at, u.recorded_at"
        " FROM billing.unposted_events u CROSS JOIN LATERAL (SELECT r.bytes_in_use FROM billing.storage_reports r"
        " WHERE r.mandate_no = u.mandate_no AND r.feature_instance_id = u.detail"
        " AND (r.occurred_at, r.event_id) < (u.occurred_at, u.event_id)"
        " AND NOT EXISTS (SELECT FROM billing.cancellations c"
        " WHERE c.mandate_no = r.mandate_no AND c.event_id = r.event_id)"
        " ORDER BY r.occurred_at DESC, r.event_id DESC LIMIT 1) AS before"
        " WHERE u.reason = 'FREE' AND u.detail <> '' AND NOT EXISTS (SELECT FROM billing.cancellations c"
        " WHERE c.mandate_no = u.mandate_no AND c.event_id = u.event_id)"
        " ON CONFLICT DO NOTHING"
    )
    op.execute("DROP INDEX billing.ix_unposted_events_reports")
