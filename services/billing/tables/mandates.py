"""Mandates: settings and terms, subscriptions, what was changed and answered."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.billing.tables.base import NOW, Id, Time, metadata

__all__ = ["audit_log", "kept_answers", "mandate_subscriptions", "mandates"]

# A mandate (tenant) that has money or settings here: its narrow key, its settings (amounts in micro-CHF) and the terms
# of its plan.
mandates = sa.Table(
    "mandates",
    metadata,
    sa.Column("no", sa.Integer, sa.Identity(), primary_key=True),
    sa.Column("id", Id, nullable=False, unique=True),
    sa.Column("billing_model", sa.Text, nullable=False, server_default="PREPAY_MANDATE"),
    sa.Column("default_user_credit", sa.BigInteger, nullable=False, server_default="10000000"),
    sa.Column("warning_threshold_percent", sa.Numeric, nullable=False, server_default="10"),
    sa.Column("block_on_zero_balance", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("billing_address", JSONB),
    sa.Column("notify_emails", ARRAY(sa.Text), nullable=False, server_default="{}"),
    sa.Column("notify_on_warning", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("auto_recharge_enabled", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("recharge_amount", sa.BigInteger, nullable=False, server_default="10000000"),
    sa.Column("recharge_max_per_month", sa.Integer, nullable=False, server_default="3"),
    # How many recharges were declined in a row; the last that is allowed turns them off.
    sa.Column("recharge_failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("markup_percent", sa.Numeric),
    sa.Column("time_zone", sa.Text, nullable=False, server_default="Europe/Zurich"),
    # Zones that held before, oldest first: [[until, zone], ...]; a new one counts from the next month on.
    sa.Column("past_time_zones", JSONB, nullable=False, server_default="[]"),
    sa.Column("late_events", sa.Text, nullable=False, server_default="own"),
    sa.Column("late_event_days", sa.Integer, nullable=False, server_default="0"),
    # The terms of the subscription in force, out of `mandate_subscriptions`; null means that there never was one.
    sa.Column("subscription_id", sa.Uuid),
    sa.Column("subscription_version", sa.BigInteger),
    sa.Column("subscription_operative", sa.Boolean),
    sa.Column("plan_key", sa.Text),
    sa.Column("plan_markup_percent", sa.Numeric),
    # Whether any usage of it was claimed without a posting, so that new usage has to be looked up among that.
    sa.Column("has_unposted", sa.Boolean, nullable=False, server_default=sa.false()),
    # Whether any usage of it was cancelled, so that new usage has to be looked up among that.
    sa.Column("has_cancellations", sa.Boolean, nullable=False, server_default=sa.false()),
    # Grows with every change of what charges are priced by (model, markup, time zone, late events, `has_unposted`,
    # `has_cancellations`), so that a charge can tell that its terms are still those it priced by; other settings do not
    # disturb it.
    sa.Column("pricing_version", sa.BigInteger, nullable=False, server_default="0"),
    # The first day whose costs are kept for its limits (`limit_costs`); null where it has none.
    sa.Column("limits_since", sa.Date),
    # The last day whose rollups are summed (`rollup_sums`), because it has many; null where none are.
    sa.Column("summed_until", sa.Date),
    sa.Column("created_at", Time, nullable=False, server_default=NOW),
    # So that a charge of mandates without limits looks for those with them in an index that is empty.
    sa.Index("ix_mandates_limits_since", "no", postgresql_where=sa.text("limits_since IS NOT NULL")),
    # As above, for the sums of rollups.
    sa.Index("ix_mandates_summed_until", "no", postgresql_where=sa.text("summed_until IS NOT NULL")),
    sa.Index("ix_mandates_auto_recharge", "no", postgresql_where=sa.text("auto_recharge_enabled")),
)

# Each subscription as its newest event describes it. Which of them is in force for the mandate follows from these rows
# alone, so it does not depend on the order in which the events arrived.
mandate_subscriptions = sa.Table(
    "mandate_subscriptions",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("subscription_id", sa.Uuid, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("operative", sa.Boolean, nullable=False),
    sa.Column("was_operative", sa.Boolean, nullable=False),
    sa.Column("plan_key", sa.Text, nullable=False),
    sa.Column("markup_percent", sa.Numeric),
    sa.Column("changed_at", Time, nullable=False),
    # When it ended; null while it has not, or where it did in a release before.
    sa.Column("ended_at", Time),
    sa.PrimaryKeyConstraint("mandate_no", "subscription_id"),
)

# Who changed settings, credit and accounts, from what to what.
audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("mandate_no", sa.Integer),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("before", JSONB),
    sa.Column("after", JSONB),
    sa.Column("at", Time, nullable=False),
)

# The answers to changes with an idempotency key; a repeat gets the stored one.
kept_answers = sa.Table(
    "kept_answers",
    metadata,
    sa.Column("mandate_no", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("action", sa.Text, primary_key=True),
    sa.Column("actor", sa.Text, primary_key=True),
    sa.Column("idempotency_key", Id, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("answer", JSONB),
    sa.Column("at", Time, nullable=False),
)
