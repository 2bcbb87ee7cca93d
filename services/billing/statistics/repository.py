"""Writes of the sums of rollups, and finding the mandates that need them."""

from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.rollup_sums import ADDED, SUMMED
from services.billing.tables import mandates, rollups

__all__ = ["LookedAt", "look_at_mandates", "sum_rollups"]


class LookedAt(NamedTuple):
    """A mandate, its calendar as it is stored, up to which day its rollups are summed, and whether they are to be."""

    mandate_no: int
    time_zone: str
    past_time_zones: Any
    summed_until: date | None
    many: bool


async def look_at_mandates(connection: AsyncConnection, *, after: int, limit: int, many: int) -> Sequence[LookedAt]:
    """The next mandates, in the order of their numbers. Of each that has no sums no more rollups are counted than
    decide whether there are many."""
    few = sa.select(sa.literal(1)).where(rollups.c.mandate_no == mandates.c.no).correlate(mandates).limit(many)
    counted = sa.select(sa.func.count()).select_from(few.subquery()).scalar_subquery()
    columns = (mandates.c.no, mandates.c.time_zone, mandates.c.past_time_zones, mandates.c.summed_until)
    wanted = sa.case((mandates.c.summed_until.is_(None), counted >= many), else_=sa.true())
    read = sa.select(*columns, wanted).where(mandates.c.no > after).order_by(mandates.c.no).limit(limit)
    return [LookedAt(*row) for row in await connection.execute(read)]


async def sum_rollups(connection: AsyncConnection, mandate_no: int, *, until: date) -> bool:
    """Sums the rollups of a mandate, which the caller has locked, up to a day; from then on every statement that adds
    to rollups of these days adds to the sums. False where they are summed that far already."""
    read = sa.select(mandates.c.summed_until).where(mandates.c.no == mandate_no)
    summed: date | None = (await connection.execute(read)).scalar_one()
    if summed is not None and summed >= until:
        return False
    days = " WHERE rolled.mandate_no = :mandate_no AND rolled.day > :after AND rolled.day <= :until"
    await connection.execute(
        sa.text(
            "INSERT INTO rollup_sums AS s (mandate_no, period, first_day, dimension_no, cost, count) "
            + SUMMED.format("rollups", days)
            + ADDED
        ),
        {"mandate_no": mandate_no, "after": summed or date.min, "until": until},
    )
    await connection.execute(sa.update(mandates).where(mandates.c.no == mandate_no).values(summed_until=until))
    return True
