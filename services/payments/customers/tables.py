"""Mandates as customers at Stripe, and what was seen of payment methods, as the migrations make the tables."""

import sqlalchemy as sa

from services.chassis.migrations import service_metadata

__all__ = ["customers", "seen_methods"]

_metadata = service_metadata("payments")

_Id = sa.Text(collation="C")
_Time = sa.DateTime(timezone=True)

customers = sa.Table(
    "customers",
    _metadata,
    sa.Column("mandate_id", _Id, primary_key=True),
    sa.Column("stripe_customer_id", _Id, unique=True),
    # A part of the key sent to Stripe; raised when Stripe answered with a fault, which it would repeat for a day.
    sa.Column("stripe_attempt", sa.Integer, nullable=False, server_default="1"),
    # The method that recharges are charged to, where the customer has chosen none at Stripe: of those that were saved
    # and that they still have, the newest.
    sa.Column("payment_method_id", _Id),
    # A recharge found no method, so automatic recharges are on: the next top-up saves the one it is paid by.
    sa.Column("wants_method", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("updated_at", _Time, nullable=False),
)

# Methods that were saved for recharges, and all that were taken away from a customer, as each was last seen. One that
# was taken away stays here, so that an older look at it does not bring it back.
seen_methods = sa.Table(
    "seen_methods",
    _metadata,
    sa.Column("method_id", _Id, primary_key=True),
    # Whose it is; null once it was taken away.
    sa.Column("stripe_customer_id", _Id),
    # When Stripe made it; null where Stripe does not have it any more.
    sa.Column("created_at", _Time),
    # The number of the newest look at it.
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("seen_at", _Time, nullable=False),
    sa.Index("ix_seen_methods_stripe_customer_id", "stripe_customer_id"),
)
