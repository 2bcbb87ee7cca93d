"""Money of payments that went back, as the migrations make the table."""

import sqlalchemy as sa

from services.chassis.migrations import service_metadata
from services.payments.checkouts.tables import payments

__all__ = ["refunds"]

_Id = sa.Text(collation="C")
_Time = sa.DateTime(timezone=True)

# A row for each refund and dispute that was decided: TAKEN; a dispute that was won, or a refund that failed, before it
# was taken (NOT_TAKEN); or one that was taken and came back (GIVEN_BACK).
refunds = sa.Table(
    "refunds",
    service_metadata("payments"),
    sa.Column("refund_id", _Id, primary_key=True),
    sa.Column("payment_event_id", sa.Uuid, sa.ForeignKey(payments.c.event_id), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    # What is taken from the credit, or was, never more than was paid; and what Stripe says went back.
    sa.Column("amount", sa.Numeric(24, 6), nullable=False),
    sa.Column("stripe_amount", sa.Numeric(24, 6), nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("recorded_at", _Time, nullable=False),
    sa.Column("updated_at", _Time, nullable=False),
    # How many times it took from the credit: again where it was given back in between, or where room came later.
    sa.Column("taken_count", sa.Integer, nullable=False, server_default="0"),
    # The number of the newest look at the payment's refunds and disputes.
    sa.Column("version", sa.BigInteger, nullable=False, server_default="0"),
    sa.CheckConstraint("kind IN ('REFUND', 'DISPUTE')", name="kind"),
    sa.CheckConstraint("state IN ('TAKEN', 'NOT_TAKEN', 'GIVEN_BACK')", name="state"),
    sa.Index("ix_refunds_payment_event_id", "payment_event_id"),
)
