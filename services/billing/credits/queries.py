"""Reads of which payments were credited and which refunds taken back."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.tables import payment_credits, payment_refunds

__all__ = ["list_payment_credits", "list_payment_refunds"]


async def list_payment_credits(connection: AsyncConnection, *, since: datetime) -> Sequence[tuple[str, int]]:
    """The payments that were credited from then on: reference and micro-CHF."""
    credited = payment_credits.c
    read = sa.select(credited.reference, credited.amount).where(credited.credited_at >= since)
    return [(reference, amount) for reference, amount in await connection.execute(read)]


async def list_payment_refunds(connection: AsyncConnection, *, since: datetime) -> Sequence[tuple[str, int]]:
    """The refunds and lost disputes that were taken back from then on: their id and micro-CHF."""
    taken = payment_refunds.c
    read = sa.select(taken.refund_id, taken.amount).where(taken.refunded_at >= since)
    return [(refund_id, amount) for refund_id, amount in await connection.execute(read)]
