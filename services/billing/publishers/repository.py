"""Writes of silences: one row a mandate, of the last one."""

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.tables import publisher_silences
from services.chassis.statements import one_of

__all__ = ["end_silences", "note_silence"]


async def note_silence(
    connection: AsyncConnection, mandate_no: int, *, last_usage_at: datetime, now: datetime
) -> int | None:
    """Notes a silence and gives its number; None where the one since that usage was noted already."""
    row = insert(publisher_silences).values(
        mandate_no=mandate_no, silence=1, last_usage_at=last_usage_at, noticed_at=now, over=False
    )
    again = row.on_conflict_do_update(
        index_elements=[publisher_silences.c.mandate_no],
        set_={
            "silence": publisher_silences.c.silence + 1,
            "last_usage_at": row.excluded.last_usage_at,
            "noticed_at": row.excluded.noticed_at,
            "over": False,
        },
        where=sa.and_(publisher_silences.c.over, publisher_silences.c.last_usage_at < row.excluded.last_usage_at),
    )
    number: int | None = await connection.scalar(again.returning(publisher_silences.c.silence))
    return number


async def end_silences(connection: AsyncConnection, mandate_numbers: Collection[int]) -> None:
    """Notes that these are over."""
    ended = one_of(publisher_silences.c.mandate_no, sorted(mandate_numbers))
    await connection.execute(sa.update(publisher_silences).where(ended).values(over=True))
