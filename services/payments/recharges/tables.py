"""Recharges of the stored payment method, as the migrations make the table."""

import sqlalchemy as sa

from services.chassis.migrations import service_metadata

__all__ = ["recharges"]

_Id = sa.Text(collation="C")
_Time = sa.DateTime(timezone=True)

recharges = sa.Table(
    "recharges",
    service_metadata("payments"),
    sa.Column("recharge_id", sa.Uuid, primary_key=True),
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("user_id", _Id),
    sa.Column("amount", sa.Numeric(24, 6), nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("stripe_payment_intent_id", _Id, unique=True),
    sa.Column("decline_code", sa.Text),
    sa.Column("requested_at", _Time, nullable=False),
    sa.Column("updated_at", _Time, nullable=False),
    sa.CheckConstraint("state IN ('CHARGING', 'PROCESSING', 'ACTION_REQUIRED', 'DECLINED', 'SUCCEEDED')", name="state"),
)
