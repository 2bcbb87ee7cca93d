"""Subscriptions at Stripe, as the migrations make the table."""

import sqlalchemy as sa

from services.chassis.migrations import service_metadata

__all__ = ["invoice_attempts", "stripe_subscriptions"]

_metadata = service_metadata("payments")

_Id = sa.Text(collation="C")
_Time = sa.DateTime(timezone=True)

# Which subscription of ours is which at Stripe. The row is there before its checkout is opened.
stripe_subscriptions = sa.Table(
    "stripe_subscriptions",
    _metadata,
    sa.Column("subscription_id", sa.Uuid, primary_key=True),
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("plan_key", sa.Text),
    sa.Column("members_price_id", _Id),
    sa.Column("instances_price_id", _Id),
    sa.Column("checkout_session_id", _Id, unique=True),
    sa.Column("stripe_subscription_id", _Id, unique=True),
    # As it was when it was last told of.
    sa.Column("status", sa.Text),
    # The number of the newest observation that was published.
    sa.Column("version", sa.BigInteger, nullable=False, server_default="0"),
    # The highest version of quantities that Stripe was asked for.
    sa.Column("quantity_version", sa.BigInteger, nullable=False, server_default="0"),
    # When it was first told that Stripe has it.
    sa.Column("begun_told_at", _Time),
    # Since when it is cancelled and what is paid for it goes back, because another one was begun in its place.
    sa.Column("taken_back_at", _Time),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("updated_at", _Time, nullable=False),
    sa.Index("ix_stripe_subscriptions_mandate_id", "mandate_id"),
)

# The attempts to pay an invoice of a subscription that have failed, each of which is told of once.
invoice_attempts = sa.Table(
    "invoice_attempts",
    _metadata,
    sa.Column("stripe_invoice_id", _Id, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("noted_at", _Time, nullable=False),
    sa.PrimaryKeyConstraint("stripe_invoice_id", "attempt"),
)
