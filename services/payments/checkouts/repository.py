"""Checkouts and the payments of them, each statement in the caller's transaction."""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.checkouts.domain import Checkout, CheckoutState, Payment
from services.payments.checkouts.tables import checkouts, payments

__all__ = [
    "add_checkout",
    "add_payment",
    "find_checkout",
    "lock_checkout",
    "publish_payment",
    "renew_stripe_attempt",
    "save_checkout_customer",
    "save_session",
    "save_state",
    "take_over_checkout",
]

# What each event does is made once, because making such a statement costs more than executing it.
_OF_SESSION = sa.select(checkouts).where(checkouts.c.stripe_session_id == sa.bindparam("session_id"))
# A crash can keep us from noting the session's id; then only the reference leads here.
_OF_SESSION_OR_REFERENCE = sa.select(checkouts).where(
    sa.or_(checkouts.c.stripe_session_id == sa.bindparam("session_id"), checkouts.c.id == sa.bindparam("reference"))
)
_LOCK_OF_SESSION = _OF_SESSION.with_for_update()
_LOCK_OF_SESSION_OR_REFERENCE = _OF_SESSION_OR_REFERENCE.with_for_update()
_SAVE_STATE = (
    sa.update(checkouts)
    .where(checkouts.c.id == sa.bindparam("id_"))
    .values(
        state=sa.bindparam("new_state"),
        stripe_session_id=sa.func.coalesce(checkouts.c.stripe_session_id, sa.bindparam("session_id", type_=sa.Text)),
        updated_at=sa.bindparam("now"),
    )
)
_ADD_PAYMENT = insert(payments).on_conflict_do_nothing().returning(payments.c.event_id)


async def add_checkout(connection: AsyncConnection, checkout: Checkout) -> Checkout:
    """Adds the checkout, or gives the one that has its idempotency key already."""
    added = await connection.execute(
        insert(checkouts)
        .values(asdict(checkout))
        .on_conflict_do_nothing(index_elements=["created_by_user_id", "purpose", "idempotency_key"])
        .returning(checkouts.c.id)
    )
    if added.first() is not None:
        return checkout
    found = await connection.execute(
        sa.select(checkouts).where(
            checkouts.c.created_by_user_id == checkout.created_by_user_id,
            checkouts.c.purpose == checkout.purpose,
            checkouts.c.idempotency_key == checkout.idempotency_key,
        )
    )
    return Checkout(**found.mappings().one())


async def take_over_checkout(connection: AsyncConnection, checkout: Checkout) -> None:
    """Adds a checkout that the system before this one has opened, unless it is there."""
    await connection.execute(insert(checkouts).values(asdict(checkout)).on_conflict_do_nothing())


async def find_checkout(connection: AsyncConnection, session_id: str, reference: str | None) -> Checkout | None:
    """The checkout of a session of Stripe's: by the session's id, else by the reference we gave it."""
    return await _find(connection, session_id, reference, _OF_SESSION, _OF_SESSION_OR_REFERENCE)


async def lock_checkout(connection: AsyncConnection, session_id: str, reference: str | None) -> Checkout | None:
    """The same, held until the end of the transaction."""
    return await _find(connection, session_id, reference, _LOCK_OF_SESSION, _LOCK_OF_SESSION_OR_REFERENCE)


async def _find(
    connection: AsyncConnection,
    session_id: str,
    reference: str | None,
    of_session: sa.Select[Any],
    of_either: sa.Select[Any],
) -> Checkout | None:
    checkout_id = _uuid(reference)
    if checkout_id is None:
        found = await connection.execute(of_session, {"session_id": session_id})
    else:
        found = await connection.execute(of_either, {"session_id": session_id, "reference": checkout_id})
    row = found.mappings().first()
    return None if row is None else Checkout(**row)


def _uuid(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None


async def save_session(
    connection: AsyncConnection, checkout_id: UUID, *, session_id: str, url: str, now: datetime
) -> None:
    """Notes the session that Stripe made, and where the payer is sent."""
    await connection.execute(
        sa.update(checkouts)
        .where(checkouts.c.id == checkout_id)
        .values(stripe_session_id=session_id, redirect_url=url, updated_at=now)
    )


async def save_checkout_customer(connection: AsyncConnection, checkout: Checkout, customer_id: str) -> Checkout:
    """Notes whose method the checkout saves; gives the checkout with the one that holds."""
    first = sa.func.coalesce(checkouts.c.stripe_customer_id, customer_id)
    saved = await connection.execute(
        sa.update(checkouts)
        .where(checkouts.c.id == checkout.id)
        .values(stripe_customer_id=first)
        .returning(checkouts.c.stripe_customer_id)
    )
    return replace(checkout, stripe_customer_id=saved.scalar_one())


async def renew_stripe_attempt(connection: AsyncConnection, checkout: Checkout) -> None:
    """Gives the checkout another key at Stripe, unless somebody else has done so meanwhile."""
    await connection.execute(
        sa.update(checkouts)
        .where(checkouts.c.id == checkout.id, checkouts.c.stripe_attempt == checkout.stripe_attempt)
        .values(stripe_attempt=checkout.stripe_attempt + 1)
    )


async def save_state(
    connection: AsyncConnection, checkout_id: UUID, *, state: CheckoutState, session_id: str, now: datetime
) -> None:
    """Notes the state; a session that a crash kept us from noting is noted now."""
    noted = {"id_": checkout_id, "new_state": state, "session_id": session_id, "now": now}
    await connection.execute(_SAVE_STATE, noted)


async def add_payment(connection: AsyncConnection, payment: Payment) -> Payment | None:
    """Adds the payment and gives None, or gives the one that is there for the same session or payment intent."""
    if (await connection.execute(_ADD_PAYMENT, asdict(payment))).first() is not None:
        return None
    # The event id comes from the session's, so it finds a payment of the same session.
    same = payments.c.event_id == payment.event_id
    if payment.stripe_payment_intent_id is not None:
        same |= payments.c.stripe_payment_intent_id == payment.stripe_payment_intent_id
    found = await connection.execute(sa.select(payments).where(same))
    return Payment(**found.mappings().one())


async def publish_payment(connection: AsyncConnection, payment: Payment) -> bool:
    """Notes that a payment is told of that was not before; False where somebody else has done so."""
    unpublished = (payments.c.event_id == payment.event_id, ~payments.c.published)
    noted = sa.update(payments).where(*unpublished).values(published=True).returning(payments.c.event_id)
    return (await connection.execute(noted)).first() is not None
