"""Everything that is written, each statement in the caller's transaction."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.checkouts.domain import CheckoutState
from services.payments.checkouts.records import Checkout, Payment, StoredEvent
from services.payments.inbox.domain import IncomingEvent
from services.payments.tables import checkouts, payments, webhook_events

__all__ = [
    "add_checkout",
    "add_payment",
    "claim_events",
    "find_checkout",
    "lock_checkout",
    "mark_processed",
    "postpone_event",
    "renew_stripe_attempt",
    "reopen_events",
    "save_session",
    "save_state",
    "store_event",
]


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


async def find_checkout(connection: AsyncConnection, session_id: str, reference: str | None) -> Checkout | None:
    """The checkout of a session of Stripe's: by the session's id, else by the reference we gave it."""
    return await _find(connection, _of_session(session_id, reference))


async def lock_checkout(connection: AsyncConnection, session_id: str, reference: str | None) -> Checkout | None:
    """The same, held until the end of the transaction."""
    return await _find(connection, _of_session(session_id, reference).with_for_update())


def _of_session(session_id: str, reference: str | None) -> sa.Select[Any]:
    ours = checkouts.c.stripe_session_id == session_id
    checkout_id = _uuid(reference)
    if checkout_id is not None:
        # A crash can keep us from noting the session's id; then only the reference leads here.
        ours |= checkouts.c.id == checkout_id
    return sa.select(checkouts).where(ours)


async def _find(connection: AsyncConnection, query: sa.Select[Any]) -> Checkout | None:
    row = (await connection.execute(query)).mappings().first()
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
    await connection.execute(
        sa.update(checkouts)
        .where(checkouts.c.id == checkout_id)
        .values(
            state=state,
            stripe_session_id=sa.func.coalesce(checkouts.c.stripe_session_id, session_id),
            updated_at=now,
        )
    )


async def add_payment(connection: AsyncConnection, payment: Payment) -> Payment | None:
    """Adds the payment and gives None, or gives the one that is there for the same session or payment intent."""
    added = await connection.execute(
        insert(payments).values(asdict(payment)).on_conflict_do_nothing().returning(payments.c.event_id)
    )
    if added.first() is not None:
        return None
    # The event id comes from the session's, so it finds a payment of the same session.
    same = payments.c.event_id == payment.event_id
    if payment.stripe_payment_intent_id is not None:
        same |= payments.c.stripe_payment_intent_id == payment.stripe_payment_intent_id
    found = await connection.execute(sa.select(payments).where(same))
    return Payment(**found.mappings().one())


async def store_event(connection: asyncpg.Connection, event: IncomingEvent, payload: bytes, now: datetime) -> bool:
    """Puts an event into the inbox, committed; False when it is there already.

    One statement on a bare connection: Stripe waits for the answer.
    """
    status = await connection.execute(
        "INSERT INTO webhook_events"
        " (event_id, type, object_type, object_id, api_version, livemode, payload, received_at, next_attempt_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (event_id) DO NOTHING",
        event.id,
        event.type,
        event.object_type,
        event.object_id,
        event.api_version,
        event.livemode,
        payload,
        now,
    )
    return bool(status == "INSERT 0 1")


async def claim_events(
    connection: AsyncConnection, *, limit: int, now: datetime, lease_until: datetime
) -> list[StoredEvent]:
    """Takes due events for this worker; they come again when the lease ends and nobody has marked them."""
    due = (
        sa.select(webhook_events.c.event_id)
        .where(webhook_events.c.processed_at.is_(None), webhook_events.c.next_attempt_at <= now)
        .order_by(webhook_events.c.next_attempt_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        # Evaluated once, so that the limit holds.
        .cte("due")
    )
    rows = await connection.execute(
        sa.update(webhook_events)
        .where(webhook_events.c.event_id.in_(sa.select(due.c.event_id)))
        .values(attempts=webhook_events.c.attempts + 1, next_attempt_at=lease_until)
        .returning(
            webhook_events.c.event_id, webhook_events.c.type, webhook_events.c.object_id, webhook_events.c.attempts
        )
    )
    return [StoredEvent(*row) for row in rows]


async def mark_processed(
    connection: AsyncConnection, event_id: str, *, outcome: str, now: datetime, error: str | None = None
) -> None:
    """Marks an event as done; in the transaction of its effect."""
    await connection.execute(
        sa.update(webhook_events)
        .where(webhook_events.c.event_id == event_id)
        .values(processed_at=now, outcome=outcome, error=error)
    )


async def postpone_event(connection: AsyncConnection, event_id: str, *, error: str, next_attempt_at: datetime) -> None:
    """Notes why a try failed and when the next is due; an event that another worker has done meanwhile stays done."""
    await connection.execute(
        sa.update(webhook_events)
        .where(webhook_events.c.event_id == event_id, webhook_events.c.processed_at.is_(None))
        .values(error=error, next_attempt_at=next_attempt_at)
    )


async def reopen_events(connection: AsyncConnection, event_ids: Sequence[str], now: datetime) -> list[str]:
    """Lets events be processed again at once, done or not; gives the ids of those that exist."""
    rows = await connection.execute(
        sa.update(webhook_events)
        .where(webhook_events.c.event_id.in_(event_ids))
        .values(processed_at=None, outcome=None, error=None, next_attempt_at=now)
        .returning(webhook_events.c.event_id)
    )
    return sorted(rows.scalars())
