"""Reads of the stored events, for operators and metrics."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.inbox.tables import webhook_events

__all__ = ["count_waiting_events", "find_event", "list_events"]


async def count_waiting_events(connection: AsyncConnection) -> int:
    """How many stored events are not processed yet."""
    query = sa.select(sa.func.count()).select_from(webhook_events).where(webhook_events.c.processed_at.is_(None))
    return (await connection.execute(query)).scalar_one()


async def find_event(connection: AsyncConnection, event_id: str) -> dict[str, Any] | None:
    """One event with its payload."""
    row = (await connection.execute(sa.select(webhook_events).where(webhook_events.c.event_id == event_id))).mappings()
    found = row.first()
    return None if found is None else dict(found)


async def list_events(connection: AsyncConnection, *, unfinished: bool, limit: int) -> list[dict[str, Any]]:
    """The newest events of the inbox without their payload; `unfinished` leaves out what is done without a fault."""
    columns = [column for column in webhook_events.c if column is not webhook_events.c.payload]
    query = sa.select(*columns).order_by(webhook_events.c.received_at.desc(), webhook_events.c.event_id).limit(limit)
    if unfinished:
        query = query.where(sa.or_(webhook_events.c.processed_at.is_(None), webhook_events.c.error.is_not(None)))
    return [dict(row) for row in (await connection.execute(query)).mappings()]
