"""What was credited and taken back, once each, and what is asked of payments."""

import sqlalchemy as sa

from services.billing.tables.base import Id, Time, metadata

__all__ = [
    "budget_movements",
    "budget_refunds",
    "payment_credits",
    "payment_refunds",
    "promotion_redemptions",
    "promotions",
    "recharges",
    "subscription_budgets",
]

# Budgets that were credited, one per subscription and period: the amount in micro-CHF, and the grants that it made.
subscription_budgets = sa.Table(
    "subscription_budgets",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("subscription_id", sa.Uuid, nullable=False),
    sa.Column("period_start", Time, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("credited_at", Time, nullable=False),
    sa.Column("grant_nos", sa.ARRAY(sa.BigInteger), nullable=False, server_default="{}"),
    sa.PrimaryKeyConstraint("mandate_no", "subscription_id", "period_start"),
)

# Payments that were credited, under the id of their (first) row, with the amount in micro-CHF; the digest distinguishes
# a repeat from a conflict, and is null for payments from before it was kept.
payment_credits = sa.Table(
    "payment_credits",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("event_id", sa.Uuid, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.LargeBinary),
    sa.Column("credited_at", Time, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "event_id"),
)

# Refunds and lost disputes that were taken back, under the id of their (first) row, with the amount in micro-CHF and
# the reference of the payment; the digest distinguishes a repeat from a conflict.
payment_refunds = sa.Table(
    "payment_refunds",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("event_id", sa.Uuid, nullable=False),
    sa.Column("refund_id", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("refunded_at", Time, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "event_id"),
)

# What went back of the payment of a period, whether or not the period's budget was told of yet: `amount` of
# `paid_amount`, both in the currency of the payment, takes the same part of the budget. Kept for ever.
budget_refunds = sa.Table(
    "budget_refunds",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    # The identity of one taking, as payments tells of it: Stripe's id, from the second on with `/` and its number.
    sa.Column("refund_id", Id, nullable=False),
    # Of the payment.
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("subscription_id", sa.Uuid, nullable=False),
    sa.Column("period_start", Time, nullable=False),
    sa.Column("amount", sa.Numeric, nullable=False),
    sa.Column("paid_amount", sa.Numeric, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("refunded_at", Time, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("noted_at", Time, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "refund_id"),
    sa.CheckConstraint("amount >= 0 AND paid_amount > 0", name="amount"),
)

# What refunds have taken of the budget of a period (below zero), and what was given again, in micro-CHF, under the id
# of the row; `reference` is the refund, or what of it came back.
budget_movements = sa.Table(
    "budget_movements",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("event_id", sa.Uuid, nullable=False),
    sa.Column("subscription_id", sa.Uuid, nullable=False),
    sa.Column("period_start", Time, nullable=False),
    sa.Column("reference", Id, nullable=False),
    sa.Column("grant_no", sa.BigInteger, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "event_id"),
    sa.CheckConstraint("amount <> 0", name="amount"),
)

# Promotions: credit (micro-CHF) that expires, for one mandate, or for each that redeems the code.
promotions = sa.Table(
    "promotions",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("mandate_no", sa.Integer),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("expires_at", Time, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("code", Id, unique=True),
    sa.Column("created_by_user_id", sa.Text, nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.CheckConstraint("amount > 0", name="amount"),
    sa.CheckConstraint("mandate_no IS NOT NULL OR code IS NOT NULL", name="receiver"),
)

# Which mandates were granted which promotions, each once.
promotion_redemptions = sa.Table(
    "promotion_redemptions",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("promotion_id", sa.Uuid, sa.ForeignKey("promotions.id"), nullable=False),
    sa.Column("redeemed_by_user_id", sa.Text, nullable=False),
    sa.Column("redeemed_at", Time, nullable=False),
    sa.PrimaryKeyConstraint("mandate_no", "promotion_id"),
)

# Automatic recharges of accounts: amounts (micro-CHF) that payments was asked to charge, PENDING until it says that one
# SUCCEEDED or FAILED, or until its time is over (EXPIRED). Money that arrives later is credited all the same.
recharges = sa.Table(
    "recharges",
    metadata,
    sa.Column("mandate_no", sa.Integer, nullable=False),
    sa.Column("id", sa.Uuid, nullable=False),
    sa.Column("account_no", sa.BigInteger, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    # How many of the mandate's recharge amounts it is, and the first day of the month in which they count.
    sa.Column("units", sa.Integer, nullable=False),
    sa.Column("month", sa.Date, nullable=False),
    # The account's number of crossings when it was requested.
    sa.Column("crossing", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="PENDING"),
    sa.Column("requested_at", Time, nullable=False),
    sa.Column("expires_at", Time, nullable=False),
    sa.Column("settled_at", Time),
    # What settled it: the reference of the payment; null where that was time.
    sa.Column("cause", sa.Text),
    sa.PrimaryKeyConstraint("mandate_no", "id"),
    sa.CheckConstraint("amount > 0 AND units > 0", name="amount"),
    sa.CheckConstraint("state IN ('PENDING', 'SUCCEEDED', 'FAILED', 'EXPIRED')", name="state"),
    sa.CheckConstraint("(settled_at IS NULL) = (state = 'PENDING')", name="settled"),
    # One at a time for an account.
    sa.Index(
        "uq_recharges_pending",
        "mandate_no",
        "account_no",
        unique=True,
        postgresql_where=sa.text("state = 'PENDING'"),
    ),
    sa.Index("ix_recharges_due", "expires_at", postgresql_where=sa.text("settled_at IS NULL")),
    sa.Index("ix_recharges_account", "mandate_no", "account_no", "settled_at"),
    sa.Index("ix_recharges_month", "mandate_no", "month"),
)
