"""Reads of when usage was: the last of a mandate, and the last before given moments, each by the index of its times."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.publishers.domain import Moment
from services.billing.tables import (
    directory_mandates,
    mandates,
    publisher_silences,
    transactions,
    unposted_events,
)

__all__ = ["Publisher", "count_silent", "last_unposted", "last_usage_before", "read_publishers"]

# Usage, and no movement of our own.
_USAGE = sa.and_(transactions.c.contra_account == "REVENUE", ~transactions.c.own)


class Publisher(NamedTuple):
    """A mandate, its calendar as it is stored, whether usage of it is expected at all, and when the last was; then the
    last usage before the silence that was noticed last, and whether that is over."""

    mandate_no: int
    mandate_id: str
    time_zone: str
    past_time_zones: Any
    expected: bool
    last_usage_at: datetime | None
    silent_since: datetime | None
    over: bool | None


async def read_publishers(connection: AsyncConnection, *, after: int, limit: int) -> list[Publisher]:
    """The next mandates, in the order of their numbers."""
    newest = _newest(transactions.c.mandate_no == mandates.c.no).correlate(mandates).lateral("newest")
    read = (
        sa.select(
            mandates.c.no,
            mandates.c.id,
            mandates.c.time_zone,
            mandates.c.past_time_zones,
            sa.func.coalesce(directory_mandates.c.enabled, sa.true()),
            newest.c.occurred_at,
            publisher_silences.c.last_usage_at,
            publisher_silences.c.over,
        )
        .select_from(
            mandates.outerjoin(newest, sa.true())
            .outerjoin(directory_mandates, directory_mandates.c.id == mandates.c.id)
            .outerjoin(publisher_silences, publisher_silences.c.mandate_no == mandates.c.no)
        )
        .where(mandates.c.no > after)
        .order_by(mandates.c.no)
        .limit(limit)
    )
    return [Publisher(*row) for row in await connection.execute(read)]


async def last_usage_before(connection: AsyncConnection, mandate_no: int, moments: Sequence[datetime]) -> list[Moment]:
    """For each moment, when the last usage before it was."""
    given = (
        sa.func.unnest(sa.literal(list(moments), ARRAY(sa.TIMESTAMP(timezone=True))))
        .table_valued(sa.column("at", sa.TIMESTAMP(timezone=True)))
        .render_derived(name="given")
    )
    before = sa.and_(transactions.c.mandate_no == mandate_no, transactions.c.occurred_at <= given.c.at)
    newest = _newest(before).correlate(given).lateral("newest")
    read = sa.select(given.c.at, newest.c.occurred_at).select_from(given.outerjoin(newest, sa.true()))
    return [Moment(*row) for row in await connection.execute(read)]


async def last_unposted(connection: AsyncConnection, mandate_no: int, since: datetime) -> datetime | None:
    """When, after a time, usage came that has no row of the ledger: because it was free, or waits for a price."""
    events = unposted_events.c
    came = sa.and_(
        events.mandate_no == mandate_no, events.recorded_at > since, ~events.own, events.reason != "CANCELLATION"
    )
    found: datetime | None = await connection.scalar(sa.select(sa.func.max(events.recorded_at)).where(came))
    return found


async def count_silent(connection: AsyncConnection) -> int:
    """How many are silent by now."""
    silent = sa.select(sa.func.count()).select_from(publisher_silences).where(~publisher_silences.c.over)
    return (await connection.execute(silent)).scalar_one()


def _newest(condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    newest = sa.select(transactions.c.occurred_at).where(condition, _USAGE)
    return newest.order_by(transactions.c.occurred_at.desc()).limit(1)
