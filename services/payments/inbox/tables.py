"""The stored webhook events, as the migrations make the table. Text ids are compared byte by byte (collation C)."""

import sqlalchemy as sa

from services.chassis.migrations import service_metadata

__all__ = ["webhook_events"]

_Id = sa.Text(collation="C")
_Time = sa.DateTime(timezone=True)

# The webhook's inbox: every signed event as it came, before it was answered. `next_attempt_at` is also the lease of
# the worker that has it: one that dies lets the event come again by itself.
webhook_events = sa.Table(
    "webhook_events",
    service_metadata("payments"),
    sa.Column("event_id", _Id, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("object_type", sa.Text),
    sa.Column("object_id", _Id),
    sa.Column("api_version", sa.Text),
    sa.Column("livemode", sa.Boolean, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("received_at", _Time, nullable=False),
    sa.Column("processed_at", _Time),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_attempt_at", _Time, nullable=False),
    sa.Column("outcome", sa.Text),
    sa.Column("error", sa.Text),
    sa.Index("ix_webhook_events_due", "next_attempt_at", postgresql_where=sa.text("processed_at IS NULL")),
    sa.Index("ix_webhook_events_object_id", "object_id"),
    sa.Index("ix_webhook_events_received_at", "received_at"),
)
