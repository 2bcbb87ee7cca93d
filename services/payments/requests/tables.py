"""What other services ask to be done at Stripe, as the migrations make the table."""

import sqlalchemy as sa

from services.chassis.migrations import service_metadata

__all__ = ["stripe_requests"]

_Id = sa.Text(collation="C")
_Time = sa.DateTime(timezone=True)

# A row for each event that asks for something, and for what payments asks of itself. `next_attempt_at` is also the
# lease of the worker that has it. Requests of one lane are done one after the other, in the order of their numbers.
stripe_requests = sa.Table(
    "stripe_requests",
    service_metadata("payments"),
    sa.Column("no", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("request_id", sa.Uuid, nullable=False),
    sa.Column("mandate_id", _Id, nullable=False),
    sa.Column("lane", _Id, nullable=False),
    # Of quantities alone: only the highest of a lane counts.
    sa.Column("version", sa.BigInteger),
    # The event's data as JSON.
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("received_at", _Time, nullable=False),
    sa.Column("expires_at", _Time),
    # When Stripe may first have been asked; what was begun is finished, what was not by its expiry is given up.
    sa.Column("begun_at", _Time),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # A part of the keys sent to Stripe; raised when Stripe answered with a fault, which it would repeat for a day.
    sa.Column("stripe_attempt", sa.Integer, nullable=False, server_default="1"),
    sa.Column("next_attempt_at", _Time, nullable=False),
    sa.Column("settled_at", _Time),
    sa.Column("outcome", sa.Text),
    sa.Column("error", sa.Text),
    sa.UniqueConstraint("topic", "request_id"),
    sa.Index("ix_stripe_requests_received_at", "received_at"),
    sa.Index("ix_stripe_requests_due", "next_attempt_at", postgresql_where=sa.text("settled_at IS NULL")),
    sa.Index("ix_stripe_requests_lane", "lane", "no", postgresql_where=sa.text("settled_at IS NULL")),
)
