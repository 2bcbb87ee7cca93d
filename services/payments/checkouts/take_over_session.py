"""Checkout sessions of top-ups that the system before this one has opened: their metadata says whose they are, and what
was asked for and paid, Stripe does."""

from datetime import datetime
from typing import Literal
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.bodies import IDENTIFIER
from services.payments.checkouts.domain import TOP_UP, Checkout, CheckoutState, received_payment
from services.payments.checkouts.repository import find_checkout, lock_checkout, take_over_checkout
from services.payments.stripe.events import events_since
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.objects import CheckoutSession

__all__ = ["Arrival", "arrival_of", "find_own_checkout", "lock_own_checkout"]

# Whose a payment of a session that is not ours is to credit: of the system before this one; ours by Stripe's event that
# it arrived after the take-over; ours, because nothing says otherwise.
Arrival = Literal["before", "told_since", "ours"]

_NAMESPACE = UUID("8d2f5c4b-0e73-5a16-9b48-c7e1f30a6d52")
# What our own sessions carry: one without a record here belongs to another installation on the same account.
_OURS = ("checkoutId", "subscriptionRecordId", "rechargeId")


async def find_own_checkout(connection: AsyncConnection, session: CheckoutSession, now: datetime) -> Checkout | None:
    """The checkout of a session, also where the system before this one has opened it; None where it is not ours."""
    known = await find_checkout(connection, session.id, session.client_reference_id)
    return known or _opened_before(session, now)


async def lock_own_checkout(connection: AsyncConnection, session: CheckoutSession, now: datetime) -> Checkout | None:
    """The same, held until the end of the transaction, in which one that is taken over gets its row."""
    known = await lock_checkout(connection, session.id, session.client_reference_id)
    before = _opened_before(session, now) if known is None else None
    if before is None:
        return known
    await take_over_checkout(connection, before)
    return await lock_checkout(connection, session.id, None)


async def arrival_of(stripe: StripeGateway, session: CheckoutSession) -> Arrival:
    """Whether the system before this one has credited a session that is not ours: it was paid before this one took
    over. The charge of a delayed method has the time at which it began, so Stripe's event says that it arrived later;
    raises what a call of Stripe does."""
    since, received = stripe.taken_over_at, received_payment(session)
    if since is None or received is None or received.paid_at >= since or _carries_ours(session):
        return "ours"
    arrived = await events_since(stripe, since, ["checkout.session.async_payment_succeeded"])
    return "told_since" if any(event.object_id == session.id for event in arrived) else "before"


def _carries_ours(session: CheckoutSession) -> bool:
    return any(name in session.metadata for name in _OURS)


def _opened_before(session: CheckoutSession, now: datetime) -> Checkout | None:
    metadata = session.metadata
    mandate_id, user_id = metadata.get("mandateId", ""), metadata.get("userId") or None
    if session.mode != "payment" or _carries_ours(session) or not IDENTIFIER.fullmatch(mandate_id):
        return None
    if user_id is not None and not IDENTIFIER.fullmatch(user_id):
        return None
    return Checkout(
        id=uuid5(_NAMESPACE, session.id),
        purpose=TOP_UP,
        mandate_id=mandate_id,
        user_id=user_id,
        created_by_user_id=None,
        language="en" if (session.locale or "").startswith("en") else "de",
        amount=session.amount_total,
        currency=session.currency,
        # It is open at Stripe already, and never opened again.
        success_url="",
        cancel_url="",
        idempotency_key=None,
        request_digest=b"",
        stripe_attempt=1,
        stripe_session_id=session.id,
        redirect_url=None,
        state=CheckoutState.OPEN,
        created_at=session.created_at,
        updated_at=now,
    )
