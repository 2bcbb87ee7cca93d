"""A refused record is known by its place and its bytes: a topic that was made again has other records at old places."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Puts the digest of key, headers and value into the unique key."""
    op.execute("ALTER TABLE billing.quarantine ADD COLUMN record_sha256 BYTEA")
    op.execute("UPDATE billing.quarantine SET record_sha256 = sha256(coalesce(key, ''::bytea) || headers || sha256)")
    op.execute("ALTER TABLE billing.quarantine ALTER COLUMN record_sha256 SET NOT NULL")
    op.execute("ALTER TABLE billing.quarantine DROP CONSTRAINT uq_quarantine_topic_partition_offset_group_id")
    op.execute(
        "ALTER TABLE billing.quarantine ADD CONSTRAINT uq_quarantine_record"
        ' UNIQUE (topic, partition, "offset", group_id, record_sha256)'
    )


def downgrade() -> None:
    """Only while no place has two records."""
    op.execute("ALTER TABLE billing.quarantine DROP COLUMN record_sha256")
    op.execute(
        "ALTER TABLE billing.quarantine ADD CONSTRAINT uq_quarantine_topic_partition_offset_group_id"
        ' UNIQUE (topic, partition, "offset", group_id)'
    )
