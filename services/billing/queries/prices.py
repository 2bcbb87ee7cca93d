"""Reads of the price book, the rate table, and the events that wait for either."""

from typing import Any
from uuid import UUID

import asyncpg
import orjson

from services.billing.errors import MalformedParameter

__all__ = ["list_prices", "list_rates", "list_unpriced"]


async def list_prices(connection: asyncpg.Connection, *, after: int, limit: int) -> dict[str, Any]:
    """Price versions in the order in which they were recorded."""
    rows = await connection.fetch(
        "SELECT id, version, created_by_user_id, created_at FROM prices WHERE id > $1 ORDER BY id LIMIT $2",
        after,
        limit + 1,
    )
    items = [
        {
            "id": str(row["id"]),
            **orjson.loads(row["version"]),
            "createdByUserId": row["created_by_user_id"],
            "createdAt": row["created_at"],
        }
        for row in rows[:limit]
    ]
    return {"items": items, "nextCursor": str(rows[limit - 1]["id"]) if len(rows) > limit else None}


async def list_rates(connection: asyncpg.Connection) -> list[dict[str, Any]]:
    """Every rate, the newest first."""
    rows = await connection.fetch("SELECT * FROM rates ORDER BY currency, valid_from DESC, id DESC")
    return [
        {"currency": row["currency"], "rate": format(row["rate"], "f"), "validFrom": row["valid_from"]} for row in rows
    ]


async def list_unpriced(connection: asyncpg.Connection, *, cursor: str | None, limit: int) -> dict[str, Any]:
    """Parked events by their identity, for the operator; a payment without a rate has neither provider nor model."""
    mandate_no, event_id = _place(cursor)
    rows = await connection.fetch(
        "SELECT e.mandate_no, e.event_id, e.provider, e.model, e.currency, e.reason, e.occurred_at, m.id AS mandate_id"
        " FROM uncharged_events e JOIN mandates m ON m.no = e.mandate_no"
        " WHERE e.reason <> 'FREE' AND (e.mandate_no, e.event_id) > ($1, $2)"
        " ORDER BY e.mandate_no, e.event_id LIMIT $3",
        mandate_no,
        event_id,
        limit + 1,
    )
    items = [
        {
            "eventId": str(row["event_id"]),
            "mandateId": row["mandate_id"],
            "provider": row["provider"],
            "model": row["model"],
            "currency": row["currency"],
            "reason": row["reason"],
            "occurredAt": row["occurred_at"],
        }
        for row in rows[:limit]
    ]
    last = rows[limit - 1] if len(rows) > limit else None
    return {"items": items, "nextCursor": None if last is None else f"{last['mandate_no']}.{last['event_id']}"}


def _place(cursor: str | None) -> tuple[int, UUID]:
    if cursor is None:
        return 0, UUID(int=0)
    number, _, event_id = cursor.partition(".")
    try:
        if not (number.isascii() and number.isdigit() and len(number) <= 9):
            raise ValueError
        return int(number), UUID(event_id)
    except ValueError:
        raise MalformedParameter("cursor", en="take it from an answer", de="bitte aus einer Antwort nehmen") from None
