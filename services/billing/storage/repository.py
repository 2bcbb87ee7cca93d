"""What feature instances reported to have in use, the peak of a period, and the periods of subscriptions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.tables import cancellations, storage_periods, storage_reports, unposted_events

__all__ = [
    "OpenPeriod",
    "StorageReport",
    "close_period",
    "insert_reports",
    "open_period",
    "open_periods",
    "read_cancelled",
    "read_kept",
    "read_left_out",
    "read_named",
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

    @property
    def key(self) -> tuple[int, UUID]:
        """The event."""
        return self.mandate_no, self.event_id

    @property
    def instance(self) -> tuple[int, str]:
        """Whose report it is."""
        return self.mandate_no, self.feature_instance_id

    @property
    def place(self) -> tuple[datetime, UUID]:
        """Where it stands among those of its instance: by time and, at one time, by id."""
        return self.occurred_at, self.event_id


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
    """Writes reports, in the transaction that claims their events."""
    if reports:
        await connection.execute(sa.insert(storage_reports), [report._asdict() for report in reports])


def _given(reports: Sequence[StorageReport], name: str = "given") -> sa.TableValuedAlias:
    names = ("mandate_no", "feature_instance_id", "occurred_at", "event_id")
    arrays = [
        sa.literal([getattr(report, name) for report in reports], sa.ARRAY(storage_reports.c[name].type))
        for name in names
    ]
    columns = (sa.column(name, storage_reports.c[name].type) for name in names)
    return sa.func.unnest(*arrays).table_valued(*columns).render_derived(name=name)


def _place(columns: Any) -> sa.Tuple:
    return sa.tuple_(columns.occurred_at, columns.event_id)


def _standing(columns: Any) -> sa.ColumnElement[bool]:
    """Whether an event was not cancelled."""
    cancelled = sa.and_(cancellations.c.mandate_no == columns.mandate_no, cancellations.c.event_id == columns.event_id)
    return ~sa.exists().where(cancelled)


async def read_cancelled(connection: AsyncConnection, reports: Sequence[StorageReport]) -> set[tuple[int, UUID]]:
    """Those of reports, by (mandate, event), that were cancelled before they came."""
    given, columns = _given(reports), cancellations.c
    named = sa.and_(columns.mandate_no == given.c.mandate_no, columns.event_id == given.c.event_id)
    rows = await connection.execute(
        sa.select(columns.mandate_no, columns.event_id).select_from(given.join(cancellations, named))
    )
    return {(mandate_no, UUID(bytes=event_id.bytes)) for mandate_no, event_id in rows}


async def read_kept(
    connection: AsyncConnection, reports: Sequence[StorageReport]
) -> dict[tuple[int, str], list[StorageReport]]:
    """What is kept of the instances of reports, which are in their order, from the newest before the first of them on;
    in order, by (mandate, instance)."""
    first: dict[tuple[int, str], StorageReport] = {}
    for report in reports:
        first.setdefault(report.instance, report)
    if not first:
        return {}
    given, kept = _given(list(first.values())), storage_reports.alias("kept")
    of_instance = sa.select(*(kept.c[name] for name in StorageReport._fields)).where(
        kept.c.mandate_no == given.c.mandate_no,
        kept.c.feature_instance_id == given.c.feature_instance_id,
        _standing(kept.c),
    )
    of_instance = of_instance.correlate(given)
    newest_first = (kept.c.occurred_at.desc(), kept.c.event_id.desc())
    before = of_instance.where(_place(kept.c) < _place(given.c)).order_by(*newest_first).limit(1).lateral("before")
    since = of_instance.where(_place(kept.c) >= _place(given.c)).lateral("since")
    read = sa.union_all(
        *(sa.select(*found.c).select_from(given.join(found, sa.true())) for found in (before, since))
    ).subquery("found")
    rows = await connection.execute(sa.select(read).order_by(read.c.occurred_at, read.c.event_id))
    lines: dict[tuple[int, str], list[StorageReport]] = {}
    for report in map(_report, rows):
        lines.setdefault(report.instance, []).append(report)
    return lines


async def read_left_out(
    connection: AsyncConnection, reports: Sequence[StorageReport], *, new: bool
) -> dict[tuple[int, UUID], StorageReport]:
    """For each report, by (mandate, event), the first after it that was left out and not cancelled, before the next one
    that is kept; where there is one. What it said is not known here, so it has nothing in use.

    Of `new` reports none was left out yet, though their events are claimed. Others are kept ones that were cancelled
    together, and each bounds what was left out after the one before it.
    """
    if not reports:
        return {}
    among = _given(reports, "among")

    def is_among(columns: Any) -> sa.ColumnElement[bool]:
        event = sa.and_(among.c.mandate_no == columns.mandate_no, among.c.event_id == columns.event_id)
        return sa.exists().where(event)

    given, kept, claim = _given(reports), storage_reports.alias("kept"), unposted_events.alias("claim")
    next_kept = (
        sa.select(kept.c.occurred_at, kept.c.event_id)
        .where(
            kept.c.mandate_no == given.c.mandate_no,
            kept.c.feature_instance_id == given.c.feature_instance_id,
            _place(kept.c) > _place(given.c),
            _standing(kept.c) if new else sa.or_(_standing(kept.c), is_among(kept.c)),
        )
        .correlate(given)
        .order_by(kept.c.occurred_at, kept.c.event_id)
        .limit(1)
        .lateral("next_kept")
    )
    # Written out as in the index of such claims.
    of_report = sa.and_(claim.c.reason == sa.literal_column("'FREE'"), claim.c.detail != sa.literal_column("''"))
    following = (
        sa.select(claim.c.event_id, claim.c.occurred_at, claim.c.recorded_at)
        .where(
            claim.c.mandate_no == given.c.mandate_no,
            of_report,
            claim.c.detail == given.c.feature_instance_id,
            _place(claim.c) > _place(given.c),
            sa.or_(next_kept.c.event_id.is_(None), _place(claim.c) < _place(next_kept.c)),
            _standing(claim.c),
            ~is_among(claim.c),
        )
        .correlate(given, next_kept)
        .order_by(claim.c.occurred_at, claim.c.event_id)
        .limit(1)
        .lateral("following")
    )
    columns = (given.c.mandate_no, given.c.event_id, following.c.event_id, given.c.feature_instance_id)
    read = sa.select(*columns, sa.literal(0), following.c.occurred_at, following.c.recorded_at).select_from(
        given.outerjoin(next_kept, sa.true()).join(following, sa.true())
    )
    return {
        (mandate_no, UUID(bytes=before.bytes)): _report((mandate_no, *rest))
        for mandate_no, before, *rest in await connection.execute(read)
    }


async def read_named(connection: AsyncConnection, keys: Collection[tuple[int, UUID]]) -> list[StorageReport]:
    """Those of events, given as (mandate, event), that are reports that were kept."""
    if not keys:
        return []
    columns = storage_reports.c
    arrays = (
        sa.literal([mandate_no for mandate_no, _ in keys], sa.ARRAY(columns.mandate_no.type)),
        sa.literal([event_id for _, event_id in keys], sa.ARRAY(columns.event_id.type)),
    )
    given = sa.func.unnest(*arrays).table_valued("mandate_no", "event_id").render_derived(name="given")
    named = sa.and_(columns.mandate_no == given.c.mandate_no, columns.event_id == given.c.event_id)
    read = sa.select(*(columns[name] for name in StorageReport._fields)).select_from(given.join(storage_reports, named))
    return [_report(row) for row in await connection.execute(read)]


def _report(row: Sequence[Any]) -> StorageReport:
    """A row as a report, whose id compares with those that events have."""
    mandate_no, event_id, *rest = row
    return StorageReport(mandate_no, UUID(bytes=event_id.bytes), *rest)


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
