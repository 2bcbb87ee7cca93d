"""The stored webhook events, each statement in the caller's transaction."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.inbox.domain import IncomingEvent, StoredEvent
from services.payments.inbox.tables import webhook_events

__all__ = ["claim_events", "mark_processed", "postpone_event", "reopen_events", "store_event"]


async def store_event(connection: AsyncConnection, event: IncomingEvent, payload: bytes, now: datetime) -> bool:
    """Puts an event into the inbox; False when it is there already. One statement, because Stripe waits for the
    answer."""
    stored = await connection.execute(
        insert(webhook_events)
        .values(
            event_id=event.id,
            type=event.type,
            object_type=event.object_type,
            object_id=event.object_id,
            api_version=event.api_version,
            livemode=event.livemode,
            payload=payload,
            received_at=now,
            next_attempt_at=now,
        )
        .on_conflict_do_nothing(index_elements=[webhook_events.c.event_id])
        .returning(webhook_events.c.event_id)
    )
    return stored.first() is not None


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
