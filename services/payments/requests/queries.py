"""Reads of the stored requests, for operators and metrics."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.requests.tables import stripe_requests

__all__ = ["count_waiting_requests", "list_requests"]


async def count_waiting_requests(connection: AsyncConnection) -> int:
    """How many are not settled yet."""
    query = sa.select(sa.func.count()).select_from(stripe_requests).where(stripe_requests.c.settled_at.is_(None))
    return (await connection.execute(query)).scalar_one()


async def list_requests(connection: AsyncConnection, *, unfinished: bool, limit: int) -> list[dict[str, Any]]:
    """The newest requests without their data; `unfinished` leaves out what is settled."""
    columns = [column for column in stripe_requests.c if column is not stripe_requests.c.data]
    query = sa.select(*columns).order_by(stripe_requests.c.no.desc()).limit(limit)
    if unfinished:
        query = query.where(stripe_requests.c.settled_at.is_(None))
    return [dict(row) for row in (await connection.execute(query)).mappings()]
