"""Usage beside its charges: unposted, cancelled, priced again; storage."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from services.billing.tables.base import Id, Time, metadata

__all__ = [
    "cancellations",
    "price_corrections",
    "publisher_silences",
    "rerated_mandates",
    "rerating_parts",
    "reratings",
    "storage_periods",
    "storage_reports",
    "unposted_events",
]

# Events that were claimed without a posting: usage that is FREE (it cost nothing), usage that is parked because a price
# or rate is missing or was CANCELLED while it was, payments (`own`) that wait for a rate, and the events by which usage
# was cancelled (CANCELLATION). All but FREE, CANCELLED and CANCELLATION wait; `recorded_at` is when what waits arrived.
unposted_events = sa.Table(
    "unposted_events",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("event_id", sa.Uuid, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("currency", sa.Text),
    sa.Column("provider", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("occurred_at", Time, nullable=False),
    sa.Column("recorded_at", Time, nullable=False),
    # The whole event of a parked one, null where nothing waits.
    sa.Column("event", sa.Text),
    sa.Column("price_revision", sa.BigInteger, nullable=False),
    sa.Column("own", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.PrimaryKeyConstraint("mandate_no", "event_id", "own"),
    sa.Index(
        "ix_unposted_events_parked",
        "price_revision",
        postgresql_where=sa.text("reason NOT IN ('FREE', 'CANCELLED', 'CANCELLATION')"),
    ),
    # Reports of storage, by their instances.
    sa.Index(
        "ix_unposted_events_reports",
        "mandate_no",
        "detail",
        "occurred_at",
        "event_id",
        postgresql_where=sa.text("reason = 'FREE' AND detail <> ''"),
    ),
)

# Usage events that were cancelled, also before they arrived, each with the first reason that was given and the system
# administrator who did it (null for a publisher). A row is never updated or deleted: the usage that it names is taken
# back once it is charged, and is never priced while it is not.
cancellations = sa.Table(
    "cancellations",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("event_id", sa.Uuid, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("cancelled_by_user_id", sa.Text),
    sa.Column("cancelled_at", Time, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "event_id"),
)

# Re-ratings: charges of usage of [from, to), of a provider and model where they are named, priced again.
reratings = sa.Table(
    "reratings",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("from_time", Time, nullable=False),
    sa.Column("to_time", Time, nullable=False),
    sa.Column("provider", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("started_at", Time, nullable=False),
    # The system administrator who asked for it; null for an operator's command.
    sa.Column("started_by_user_id", sa.Text),
    sa.Column("finished_at", Time),
    sa.CheckConstraint("to_time > from_time", name="times"),
)

# How far a re-rating is, in parts that several workers carry out at once: each has the mandates whose number leaves
# `part` when it is divided by four. What was looked at lies before the position: all of the mandates before
# `mandate_no`, and of that one all, or what is up to (occurred_at, event_id). `not_priced` counts the charges that were
# left as they are, by why.
rerating_parts = sa.Table(
    "rerating_parts",
    metadata,
    sa.Column("rerating_id", sa.Uuid, nullable=False),
    sa.Column("part", sa.Integer, nullable=False),
    sa.Column("mandate_no", sa.Integer, nullable=False, server_default="0"),
    sa.Column("occurred_at", Time),
    sa.Column("event_id", sa.Uuid),
    sa.Column("not_priced", JSONB, nullable=False, server_default="[]"),
    sa.Column("finished_at", Time),
    sa.PrimaryKeyConstraint("rerating_id", "part"),
    sa.CheckConstraint("(occurred_at IS NULL) = (event_id IS NULL)", name="position"),
    sa.CheckConstraint("part BETWEEN 0 AND 3", name="part"),
    sa.Index("ix_rerating_parts_running", "rerating_id", postgresql_where=sa.text("finished_at IS NULL")),
)

# What a re-rating found in a mandate: charges, those that it corrected, and the exact prices (CHF) of all of them
# before and after.
rerated_mandates = sa.Table(
    "rerated_mandates",
    metadata,
    sa.Column("rerating_id", sa.Uuid, nullable=False),
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("charges", sa.BigInteger, nullable=False),
    sa.Column("corrected", sa.BigInteger, nullable=False),
    sa.Column("price_before", sa.Numeric, nullable=False),
    sa.Column("price_after", sa.Numeric, nullable=False),
    sa.PrimaryKeyConstraint("rerating_id", "mandate_no"),
)

# Corrections of what a usage event was charged, numbered from 1: its ledger row (`correction_id`, in the space of our
# own ids) and the exact price (CHF) at which the charge stands from then on. A row is never updated or deleted.
price_corrections = sa.Table(
    "price_corrections",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("event_id", sa.Uuid, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("correction_id", sa.Uuid, nullable=False),
    sa.Column("price", sa.Numeric, nullable=False),
    sa.Column("rerating_id", sa.Uuid, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "event_id", "number"),
)

# What feature instances reported to have in use: so many bytes from a time on, until their next report. The events are
# claimed in `unposted_events`, whose `detail` is the instance. A report that says what the one before it said has no
# row here.
storage_reports = sa.Table(
    "storage_reports",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("event_id", sa.Uuid, nullable=False),
    sa.Column("feature_instance_id", Id, nullable=False),
    sa.Column("bytes_in_use", sa.BigInteger, nullable=False),
    sa.Column("occurred_at", Time, nullable=False),
    sa.Column("recorded_at", Time, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "event_id"),
    sa.Index(
        "ix_storage_reports_in_order",
        "mandate_no",
        "feature_instance_id",
        "occurred_at",
        "event_id",
        postgresql_include=["bytes_in_use"],
    ),
)

# Periods of subscriptions, with the plan's terms for their storage (null is no limit, and no price). A closed one has
# what it was charged by: the peak, a number of bytes, and how many months it had.
storage_periods = sa.Table(
    "storage_periods",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("subscription_id", sa.Uuid, nullable=False),
    sa.Column("period_start", Time, nullable=False),
    sa.Column("period_end", Time),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("plan_key", sa.Text, nullable=False),
    sa.Column("included_mb", sa.BigInteger),
    sa.Column("price_per_gb_month", sa.Numeric),
    sa.Column("opened_at", Time, nullable=False),
    sa.Column("peak_bytes", sa.Numeric),
    sa.Column("months", sa.Numeric),
    sa.Column("closed_at", Time),
    sa.PrimaryKeyConstraint("mandate_no", "subscription_id", "period_start"),
    sa.CheckConstraint(
        "(closed_at IS NULL) = (peak_bytes IS NULL) AND (closed_at IS NULL) = (months IS NULL)"
        " AND (closed_at IS NULL OR period_end IS NOT NULL)",
        name="closed",
    ),
)

# The last time that the usage of a mandate was noticed to have stopped: how many such times there have been, the last
# usage before it, and whether usage has come since.
publisher_silences = sa.Table(
    "publisher_silences",
    metadata,
    sa.Column("mandate_no", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("silence", sa.BigInteger, nullable=False),
    sa.Column("last_usage_at", Time, nullable=False),
    sa.Column("noticed_at", Time, nullable=False),
    sa.Column("over", sa.Boolean, nullable=False),
)
