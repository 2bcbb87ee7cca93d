"""What charges stand at after corrections of their price. Callers that write hold the mandates' locks."""

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.cancellations import EventKey, given_events
from services.billing.tables import price_corrections

__all__ = ["PriceCorrection", "insert_price_corrections", "read_standing"]


class PriceCorrection(NamedTuple):
    """A correction of what a usage event was charged: its number, its row, and the exact price (CHF) from then on."""

    event_id: UUID
    number: int
    correction_id: UUID
    price: Decimal


async def read_standing(connection: AsyncConnection, keys: Collection[EventKey]) -> dict[EventKey, PriceCorrection]:
    """The newest correction of these usage events, of those that have one."""
    if not keys:
        return {}
    given, columns = given_events(keys), price_corrections.c
    named = sa.and_(columns.mandate_no == given.c.mandate_no, columns.event_id == given.c.event_id)
    read = sa.select(columns.mandate_no, *(columns[name] for name in PriceCorrection._fields))
    event = (columns.mandate_no, columns.event_id)
    newest = read.select_from(given.join(price_corrections, named)).ext(distinct_on(*event))
    rows = await connection.execute(newest.order_by(*event, columns.number.desc()))
    return {(mandate_no, event_id): PriceCorrection(event_id, *rest) for mandate_no, event_id, *rest in rows}


async def insert_price_corrections(
    connection: AsyncConnection, mandate_no: int, corrections: Sequence[PriceCorrection], rerating_id: UUID
) -> None:
    """Keeps corrections of a mandate for good; raises `UniqueViolationError` where one has been made meanwhile."""
    if not corrections:
        return
    names = PriceCorrection._fields
    arrays = [
        sa.literal(list(values), sa.ARRAY(price_corrections.c[name].type))
        for name, values in zip(names, zip(*corrections, strict=True), strict=True)
    ]
    given = sa.func.unnest(*arrays).table_valued(*names).render_derived(name="given")
    rows = sa.select(sa.literal(mandate_no), sa.literal(rerating_id), *(given.c[name] for name in names))
    await connection.execute(sa.insert(price_corrections).from_select(["mandate_no", "rerating_id", *names], rows))
