"""Writes of the sums of rollups, and finding the mandates that need them."""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.rollup_sums import SUMMED
from services.billing.tables import mandates, rollups

__all__ = ["LookedAt", "keep_sums", "look_for_many"]


class LookedAt(NamedTuple):
    """A mandate without sums, and whether it has many rollups."""

    mandate_no: int
    many: bool


async def look_for_many(connection: AsyncConnection, *, after: int, limit: int, many: int) -> Sequence[LookedAt]:
    """The next mandates without sums, in the order of their numbers. Of each no more rollups are counted than decide
    it."""
    few = sa.select(sa.literal(1)).where(rollups.c.mandate_no == mandates.c.no).correlate(mandates).limit(many)
    counted = sa.select(sa.func.count()).select_from(few.subquery()).scalar_subquery()
    read = sa.select(mandates.c.no, counted >= many).where(~mandates.c.sums_kept, mandates.c.no > after)
    rows = await connection.execute(read.order_by(mandates.c.no).limit(limit))
    return [LookedAt(*row) for row in rows]


async def keep_sums(connection: AsyncConnection, mandate_no: int) -> bool:
    """Makes the sums of a mandate, which the caller has locked; from then on every charge adds to them. False where
    they are kept already."""
    of_mandate = sa.and_(mandates.c.no == mandate_no, ~mandates.c.sums_kept)
    mark = sa.update(mandates).where(of_mandate).values(sums_kept=True).returning(mandates.c.no)
    if (await connection.execute(mark)).first() is None:
        return False
    await connection.execute(
        sa.text(
            "INSERT INTO rollup_sums (mandate_no, period, first_day, dimension_no, cost, count) "
            + SUMMED.format("rollups", " WHERE rolled.mandate_no = :mandate_no")
        ),
        {"mandate_no": mandate_no},
    )
    return True
