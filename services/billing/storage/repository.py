"""What feature instances reported to have in use, the peak of a period, and the periods of subscriptions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.tables import cancellations, storage_periods, storage_reports

__all__ = [
    "OpenPeriod",
    "StorageReport",
    "close_period",
    "insert_reports",
    "open_period",
    "open_periods",
    "read_peak",
    "update_period",
]


class StorageReport(NamedTuple):
    """That a feature instance had so many bytes in use from a time on, until its next report; the fields are the
    columns of `storage_reports`."""

    mandate_no: int
    event_id: UUID
    feature_instance_id: str
    bytes_in_use: int
    occurred_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPeriod:
    """A period of a subscription whose storage was not charged yet, with the plan's terms for it; the fields are
    columns of `storage_periods`. Null is no limit, and no price."""

    subscription_id: UUID
    period_start: datetime
    period_end: datetime | None
    version: int
    plan_key: str
    included_mb: int | None
    price_per_gb_month: Decimal | None


async def insert_reports(connection: AsyncConnection, reports: Sequence[StorageReport]) -> None:
    """Keeps reports, in the transaction that claims their events."""
    if reports:
        await connection.execute(sa.insert(storage_reports), [report._asdict() for report in reports])


async def read_peak(connection: AsyncConnection, mandate_no: int, *, start: datetime, end: datetime) -> int:
    """The largest number of bytes that all instances of a mandate had in use together at one moment of [start, end).

    Each instance has what its newest report said, by time and, at one time, by id; whatever the order in which they
    came. A report that was cancelled says nothing.
    """
    report, cancelled_id = storage_reports.c, cancellations.c.event_id
    of_mandate = report.mandate_no == mandate_no
    instances = sa.select(report.feature_instance_id).where(of_mandate).distinct().subquery("instances")
    instance = instances.c.feature_instance_id
    cancelled = sa.exists().where(cancellations.c.mandate_no == mandate_no, cancelled_id == report.event_id)
    # Instance by instance, because the index has them so.
    told = (
        sa.select(report.occurred_at, report.event_id, report.bytes_in_use)
        .where(of_mandate, report.feature_instance_id == instance, ~cancelled)
        .correlate(instances)
    )
    within = told.where(report.occurred_at >= start, report.occurred_at < end).lateral("within")
    newest_first = (report.occurred_at.desc(), report.event_id.desc())
    before = told.where(report.occurred_at < start).order_by(*newest_first).limit(1).lateral("before")
    # What was in use when the period began counts as reported at its beginning, before anything else of that moment.
    at_begin = (
        sa.literal(start, sa.DateTime(timezone=True)).label("occurred_at"),
        sa.cast(sa.null(), sa.Uuid).label("event_id"),
        before.c.bytes_in_use,
    )
    reported = sa.union_all(
        sa.select(instance, *at_begin).select_from(instances.join(before, sa.true())),
        sa.select(instance, *within.c).select_from(instances.join(within, sa.true())),
    ).subquery("reported")
    in_order = (reported.c.occurred_at, reported.c.event_id.nulls_first())
    previous = sa.func.lag(reported.c.bytes_in_use, 1, 0).over(
        partition_by=reported.c.feature_instance_id, order_by=in_order
    )
    change = (reported.c.bytes_in_use - previous).label("change")
    changes = sa.select(reported.c.occurred_at, change).subquery("changes")
    # All changes of one moment together, so that none of its states in between counts.
    moments = (
        sa.select(sa.func.sum(sa.func.sum(changes.c.change)).over(order_by=changes.c.occurred_at).label("in_use"))
        .group_by(changes.c.occurred_at)
        .subquery("moments")
    )
    read = sa.select(sa.func.coalesce(sa.func.max(moments.c.in_use), 0))
    return int((await connection.execute(read)).scalar_one())


async def open_period(connection: AsyncConnection, mandate_no: int, period: OpenPeriod, *, now: datetime) -> None:
    """Opens a period; one that was opened before stays as it is."""
    values = {name: getattr(period, name) for name in OpenPeriod.__slots__}
    opened = insert(storage_periods).values(mandate_no=mandate_no, opened_at=now, **values)
    await connection.execute(opened.on_conflict_do_nothing())


async def update_period(connection: AsyncConnection, mandate_no: int, period: OpenPeriod) -> None:
    """Gives an open period the end and the terms of a newer version of its subscription."""
    known = storage_periods.c
    values = {
        name: getattr(period, name) for name in OpenPeriod.__slots__ if name not in ("subscription_id", "period_start")
    }
    await connection.execute(
        sa.update(storage_periods)
        .where(
            known.mandate_no == mandate_no,
            known.subscription_id == period.subscription_id,
            known.period_start == period.period_start,
            known.closed_at.is_(None),
            known.version < period.version,
        )
        .values(**values)
    )


async def open_periods(connection: AsyncConnection, mandate_no: int, subscription_id: UUID) -> list[OpenPeriod]:
    """The periods of a subscription that are open, the oldest first."""
    known = storage_periods.c
    read = sa.select(*(known[name] for name in OpenPeriod.__slots__)).where(
        known.mandate_no == mandate_no, known.subscription_id == subscription_id, known.closed_at.is_(None)
    )
    rows = (await connection.execute(read.order_by(known.period_start))).mappings()
    return [OpenPeriod(**{**row, "subscription_id": UUID(bytes=row["subscription_id"].bytes)}) for row in rows]


async def close_period(
    connection: AsyncConnection,
    mandate_no: int,
    period: OpenPeriod,
    *,
    end: datetime,
    peak: int,
    months: Decimal,
    now: datetime,
) -> None:
    """Closes a period for good, with what its charge was computed from."""
    known = storage_periods.c
    await connection.execute(
        sa.update(storage_periods)
        .where(
            known.mandate_no == mandate_no,
            known.subscription_id == period.subscription_id,
            known.period_start == period.period_start,
        )
        .values(period_end=end, peak_bytes=peak, months=months, closed_at=now)
    )
