"""What charges stand at after corrections of their price. Callers that write hold the mandates' locks."""

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.cancellations import EventKey
from services.billing.tables import price_corrections

__all__ = ["PriceCorrection", "insert_price_corrections", "read_standing"]


class PriceCorrection(NamedTuple):
    """A correction of what a usage event was charged; the fields are the columns of its row."""

    mandate_no: int
    event_id: UUID
    number: int
    correction_id: UUID
    price: Decimal
    rerating_id: UUID

    @property
    def key(self) -> EventKey:
        """The usage event."""
        return self.mandate_no, self.event_id


async def read_standing(connection: AsyncConnection, keys: Collection[EventKey]) -> dict[EventKey, PriceCorrection]:
    """The newest correction of these usage events, of those that have one."""
    if not keys:
        return {}
    numbers = sa.literal([number for number, _ in keys], sa.ARRAY(sa.Integer))
    event_ids = sa.literal([event_id for _, event_id in keys], sa.ARRAY(sa.Uuid))
    given = sa.func.unnest(numbers, event_ids).table_valued("mandate_no", "event_id").render_derived(name="given")
    columns = price_corrections.c
    named = sa.and_(columns.mandate_no == given.c.mandate_no, columns.event_id == given.c.event_id)
    read = sa.select(price_corrections).select_from(given.join(price_corrections, named))
    event = (columns.mandate_no, columns.event_id)
    newest = read.ext(distinct_on(*event)).order_by(*event, columns.number.desc())
    found = [PriceCorrection(*row) for row in await connection.execute(newest)]
    return {each.key: each for each in found}


async def insert_price_corrections(connection: AsyncConnection, corrections: Sequence[PriceCorrection]) -> None:
    """Keeps corrections for good; raises `UniqueViolationError` where one has been made meanwhile. The types are said,
    so that a statement of any number of rows is the same."""
    if not corrections:
        return
    columns = [price_corrections.c[name] for name in PriceCorrection._fields]
    arrays = [
        sa.literal(list(values), sa.ARRAY(column.type))
        for column, values in zip(columns, zip(*corrections, strict=True), strict=True)
    ]
    given = sa.func.unnest(*arrays).table_valued(*PriceCorrection._fields).render_derived(name="given")
    rows = sa.select(*(given.c[name] for name in PriceCorrection._fields))
    await connection.execute(sa.insert(price_corrections).from_select(list(PriceCorrection._fields), rows))
