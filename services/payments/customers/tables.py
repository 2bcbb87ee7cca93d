"""Mandates as customers at Stripe, as the migrations make the table."""

import sqlalchemy as sa

from services.chassis.migrations import service_metadata

__all__ = ["customers"]

_Id = sa.Text(collation="C")
_Time = sa.DateTime(timezone=True)

customers = sa.Table(
    "customers",
    service_metadata("payments"),
    sa.Column("mandate_id", _Id, primary_key=True),
    sa.Column("stripe_customer_id", _Id, unique=True),
    # A part of the key sent to Stripe; raised when Stripe answered with a fault, which it would repeat for a day.
    sa.Column("stripe_attempt", sa.Integer, nullable=False, server_default="1"),
    # The method that recharges are charged to.
    sa.Column("payment_method_id", _Id),
    # A recharge found no method, so automatic recharges are on: the next top-up saves the one it is paid by.
    sa.Column("wants_method", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("updated_at", _Time, nullable=False),
)
