"""The stored webhook events, each statement in the caller's transaction."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.inbox.domain import EventsOfObject, IncomingEvent, StoredEvent, outcome_of_others
from services.payments.inbox.tables import webhook_events

__all__ = ["claim_events", "delete_events", "mark_processed", "postpone_events", "reopen_events", "store_event"]

_EVENT = webhook_events.c
_TAKEN = [_EVENT[name] for name in StoredEvent.__dataclass_fields__]

# Made once, because making such a statement costs more than executing it.
_STORE = insert(webhook_events).on_conflict_do_nothing(index_elements=[_EVENT.event_id]).returning(_EVENT.event_id)
_DUE = (
    sa.select(_EVENT.event_id)
    .where(_EVENT.processed_at.is_(None), _EVENT.next_attempt_at <= sa.bindparam("now"))
    .order_by(_EVENT.next_attempt_at)
    .limit(sa.bindparam("at_most", type_=sa.Integer))
    .with_for_update(skip_locked=True)
    # Evaluated once, so that the limit holds.
    .cte("due")
)
_CLAIM = (
    sa.update(webhook_events)
    .where(_EVENT.event_id.in_(sa.select(_DUE.c.event_id)))
    .values(attempts=_EVENT.attempts + 1, next_attempt_at=sa.bindparam("lease_until"))
    .returning(*_TAKEN, _EVENT.received_at)
)
_MARK = (
    sa.update(webhook_events)
    .where(_EVENT.event_id == sa.func.any(sa.bindparam("ids", type_=sa.ARRAY(sa.Text))))
    .values(
        processed_at=sa.bindparam("now"),
        outcome=sa.case(
            (_EVENT.event_id == sa.bindparam("first"), sa.bindparam("of_first", type_=sa.Text)),
            else_=sa.bindparam("of_others", type_=sa.Text),
        ),
        error=sa.bindparam("fault"),
    )
)


async def store_event(connection: AsyncConnection, event: IncomingEvent, payload: bytes, now: datetime) -> bool:
    """Puts an event into the inbox; False when it is there already. One statement, because Stripe waits for the
    answer."""
    row = {
        "event_id": event.id,
        "type": event.type,
        "object_type": event.object_type,
        "object_id": event.object_id,
        "api_version": event.api_version,
        "livemode": event.livemode,
        "payload": payload,
        "received_at": now,
        "next_attempt_at": now,
    }
    return (await connection.execute(_STORE, row)).first() is not None


async def claim_events(
    connection: AsyncConnection, *, limit: int, now: datetime, lease_until: datetime
) -> list[StoredEvent]:
    """Takes due events for this worker; they come again when the lease ends and nobody has marked them."""
    rows = await connection.execute(_CLAIM, {"now": now, "at_most": limit, "lease_until": lease_until})
    # The database gives them in whatever order.
    return [StoredEvent(*row[:-1]) for row in sorted(rows, key=lambda row: (row[-1], row[0]))]


async def mark_processed(
    connection: AsyncConnection, events: EventsOfObject, *, outcome: str, now: datetime, error: str | None = None
) -> None:
    """Marks events about one object as done, in the transaction of their effect; the outcome is that of the first."""
    marked = {
        "ids": events.event_ids,
        "now": now,
        "first": events.first.event_id,
        "of_first": outcome,
        "of_others": outcome_of_others(outcome),
        "fault": error,
    }
    await connection.execute(_MARK, marked)


async def postpone_events(
    connection: AsyncConnection, events: EventsOfObject, *, error: str, next_attempt_at: datetime
) -> None:
    """Notes why a try failed and when the next is due; an event that another worker has done meanwhile stays done."""
    await connection.execute(
        sa.update(webhook_events)
        .where(_is_any(events.event_ids), webhook_events.c.processed_at.is_(None))
        .values(error=error, next_attempt_at=next_attempt_at)
    )


def _is_any(event_ids: Sequence[str]) -> sa.ColumnElement[bool]:
    """One statement whatever their number, so that it is prepared once."""
    return webhook_events.c.event_id == sa.func.any(sa.bindparam(None, list(event_ids), sa.ARRAY(sa.Text)))


async def delete_events(connection: AsyncConnection, *, received_before: datetime, limit: int) -> int:
    """Deletes up to so many of the oldest events that came before a time and are done without a fault; how many."""
    done = (webhook_events.c.processed_at.is_not(None), webhook_events.c.error.is_(None))
    old = (
        sa.select(webhook_events.c.event_id)
        .where(webhook_events.c.received_at < received_before, *done)
        .order_by(webhook_events.c.received_at)
        .limit(limit)
    )
    deleted = await connection.execute(sa.delete(webhook_events).where(webhook_events.c.event_id.in_(old), *done))
    return deleted.rowcount


async def reopen_events(connection: AsyncConnection, event_ids: Sequence[str], now: datetime) -> list[str]:
    """Lets events be processed again at once, done or not; gives the ids of those that exist."""
    rows = await connection.execute(
        sa.update(webhook_events)
        .where(webhook_events.c.event_id.in_(event_ids))
        .values(processed_at=None, outcome=None, error=None, next_attempt_at=now)
        .returning(webhook_events.c.event_id)
    )
    return sorted(rows.scalars())
