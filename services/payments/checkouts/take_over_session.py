"""Checkout sessions of top-ups that the system before this one has opened: their metadata says whose they are, and what
was asked for and paid, Stripe does."""

from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.bodies import IDENTIFIER
from services.payments.checkouts.domain import TOP_UP, Checkout, CheckoutState
from services.payments.checkouts.repository import find_checkout, lock_checkout, take_over_checkout
from services.payments.stripe.objects import CheckoutSession

__all__ = ["find_own_checkout", "lock_own_checkout"]

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


def _opened_before(session: CheckoutSession, now: datetime) -> Checkout | None:
    metadata = session.metadata
    mandate_id, user_id = metadata.get("mandateId", ""), metadata.get("userId") or None
    if session.mode != "payment" or any(name in metadata for name in _OURS) or not IDENTIFIER.fullmatch(mandate_id):
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
