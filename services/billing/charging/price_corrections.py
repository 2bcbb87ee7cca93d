"""What charges stand at after corrections of their price. Callers that write hold the mandates' locks."""

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.cancellations import EventKey, given_events
from services.billing.money import Exact, remainder_text
from services.billing.tables import mandates, price_corrections
from services.chassis.database import driver_connection
from services.chassis.statements import one_of

__all__ = ["Marks", "PriceCorrection", "StandingPrice", "insert_price_corrections", "read_marks", "read_standing"]

_COLUMNS = ("mandate_no", "event_id", "number", "correction_id", "price", "rerating_id")


class Marks(NamedTuple):
    """Mandates that have cancelled usage or corrected prices at all, so that their charges have to be looked up."""

    cancellations: Collection[int]
    corrections: Collection[int]


class StandingPrice(NamedTuple):
    """How many corrections a charge has, and the exact price (CHF) at which it stands."""

    number: int
    price: Decimal


class PriceCorrection(NamedTuple):
    """A correction of what a usage event of a mandate was charged: its number, the id of its row, and the exact price
    from then on."""

    mandate_no: int
    event_id: UUID
    number: int
    correction_id: bytes
    price: Exact


async def read_marks(connection: AsyncConnection, numbers: Collection[int]) -> Marks:
    """In which of these mandates charges may be cancelled or corrected."""
    corrected = sa.select(sa.true()).where(price_corrections.c.mandate_no == mandates.c.no).correlate(mandates)
    read = sa.select(mandates.c.no, mandates.c.has_cancellations, corrected.exists())
    rows = (await connection.execute(read.where(one_of(mandates.c.no, numbers)))).all()
    return Marks({no for no, cancelled, _ in rows if cancelled}, {no for no, _, corrected in rows if corrected})


async def read_standing(connection: AsyncConnection, keys: Collection[EventKey]) -> dict[EventKey, StandingPrice]:
    """What these usage events stand at, of those that were corrected."""
    if not keys:
        return {}
    given, columns = given_events(keys), price_corrections.c
    named = sa.and_(columns.mandate_no == given.c.mandate_no, columns.event_id == given.c.event_id)
    read = sa.select(columns.mandate_no, columns.event_id, columns.number, columns.price)
    event = (columns.mandate_no, columns.event_id)
    newest = read.select_from(given.join(price_corrections, named)).ext(distinct_on(*event))
    rows = await connection.execute(newest.order_by(*event, columns.number.desc()))
    return {(mandate_no, event_id): StandingPrice(*rest) for mandate_no, event_id, *rest in rows}


async def insert_price_corrections(
    connection: AsyncConnection, corrections: Sequence[PriceCorrection], rerating_id: UUID
) -> None:
    """Keeps corrections for good; raises `UniqueViolationError` where one has been made meanwhile."""
    if not corrections:
        return
    # As the lines of a COPY, of numbers alone, in which nothing has to be escaped.
    lines = "".join(
        [
            f"{mandate_no}\t{event_id}\t{number}\t{correction_id.hex()}\t{remainder_text(price)}\t{rerating_id}\n"
            for mandate_no, event_id, number, correction_id, price in corrections
        ]
    )
    driver = driver_connection(connection)
    await driver.copy_to_table("price_corrections", source=memoryview(lines.encode()), columns=_COLUMNS)
