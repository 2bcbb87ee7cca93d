"""The tables of checkouts and payments, as the migrations make them.

Amounts are exact decimals in units of their currency, as Stripe says they were paid. Text ids are compared byte by
byte (collation C).
"""

import sqlalchemy as sa

from services.chassis.migrations import service_metadata

__all__ = ["checkouts", "payments"]

_metadata = service_metadata("payments")

_Id = sa.Text(collation="C")
_Time = sa.DateTime(timezone=True)
_Amount = sa.Numeric(24, 6)

# Checkouts that somebody has started. The row is there before Stripe is called, and everything that Stripe is sent
# comes from it, so that a try cut off by a crash can be repeated with the same idempotency key and the same parameters.
checkouts = sa.Table(
    "checkouts",
    _metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("mandate_id", _Id, nullable=False),
    # Whose account in PREPAY_USER; never who did it.
    sa.Column("user_id", _Id),
    # Null where the system before this one opened it.
    sa.Column("created_by_user_id", _Id),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("amount", _Amount, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("success_url", sa.Text, nullable=False),
    sa.Column("cancel_url", sa.Text, nullable=False),
    sa.Column("idempotency_key", _Id),
    sa.Column("request_digest", sa.LargeBinary, nullable=False),
    # A part of the key sent to Stripe; raised when Stripe answered with a fault, which it would repeat for a day.
    sa.Column("stripe_attempt", sa.Integer, nullable=False, server_default="1"),
    sa.Column("stripe_session_id", _Id, unique=True),
    sa.Column("redirect_url", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("updated_at", _Time, nullable=False),
    # The recharge that is confirmed in person by it.
    sa.Column("recharge_id", sa.Uuid),
    # Whether the method it is paid by is kept for recharges, and whose it then is.
    sa.Column("save_method", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("stripe_customer_id", _Id),
    sa.UniqueConstraint("created_by_user_id", "purpose", "idempotency_key", name="uq_checkouts_created_by_user_id"),
    sa.CheckConstraint("state IN ('OPEN', 'WAITING', 'EXPIRED', 'FAILED', 'PAID')", name="state"),
)

# Money that Stripe says it has, once each: the two unique keys are what makes webhook and confirm credit once.
# Append-only, but for `published`. `event_id` is that of the published payment.succeeded.
payments = sa.Table(
    "payments",
    _metadata,
    sa.Column("event_id", sa.Uuid, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("user_id", _Id),
    sa.Column("created_by_user_id", _Id),
    sa.Column("amount", _Amount, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("requested_amount", _Amount),
    sa.Column("requested_currency", sa.Text),
    sa.Column("mismatch", sa.Boolean, nullable=False),
    sa.Column("checkout_id", sa.Uuid, sa.ForeignKey(checkouts.c.id)),
    sa.Column("stripe_session_id", _Id, unique=True),
    sa.Column("stripe_payment_intent_id", _Id, unique=True),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("paid_at", _Time, nullable=False),
    sa.Column("recorded_at", _Time, nullable=False),
    # The business identity that was published, and what the payment is called there.
    sa.Column("reference", _Id, nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("recharge_id", sa.Uuid),
    # Whether it was told of as a credit; one that the system before this one has credited, or one of a subscription, is
    # here for what of it goes back.
    sa.Column("published", sa.Boolean, nullable=False, server_default=sa.true()),
    # Of a subscription: whose it is by our id, and the start of the period that it pays for, where that has a budget.
    sa.Column("subscription_id", sa.Uuid),
    sa.Column("period_start", _Time),
    sa.CheckConstraint("amount > 0", name="amount"),
    sa.Index("ix_payments_mandate_id", "mandate_id", "recorded_at"),
)
