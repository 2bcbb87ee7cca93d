"""Reads of the rollups within a scope. Where a mandate has many, the sums of them are read that are kept beside them,
so that an answer costs the same whatever the number of members and the size of the ledger."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.calendars import Calendar
from services.billing.mandates.queries import display_name
from services.billing.mandates.repository import calendar_of
from services.billing.reports.scope import Scope
from services.billing.statistics.domain import UNKNOWN, Named, StatisticsPeriod, UsageSum, distinct_names
from services.billing.tables import (
    accounts,
    dimensions,
    directory_mandates,
    directory_users,
    mandates,
    rollup_sums,
    rollups,
)
from services.chassis.statements import one_of

__all__ = ["UsageSums", "read_calendar", "read_members", "read_usage", "usage_parts"]


@dataclass(slots=True)
class UsageSums:
    """What was used in a period: by entry and provider, by model, by feature within its mandate; and what the mandates
    are called."""

    entries: dict[date, dict[str, UsageSum]] = field(default_factory=dict)
    by_model: dict[str, UsageSum] = field(default_factory=dict)
    by_feature: dict[tuple[int, str], UsageSum] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)


async def read_calendar(connection: AsyncConnection, scope: Scope, default: Calendar) -> Calendar:
    """The calendar of what the scope shows: its only mandate's, or the platform's over several."""
    shown = scope.mandates
    if shown is None or len(shown) != 1:
        return default
    read = sa.select(mandates.c.no, mandates.c.time_zone, mandates.c.past_time_zones).where(mandates.c.id == shown[0])
    row = (await connection.execute(read)).first()
    return default if row is None else calendar_of(*row)


async def read_usage(connection: AsyncConnection, scope: Scope, period: StatisticsPeriod) -> UsageSums:
    """What the scope shows of a period, in one statement and one for the names of its mandates."""
    sums = UsageSums()
    if scope.mandates == ():
        return sums
    for row in await connection.execute(_grouped(scope, period)):
        if not row.of_entry:
            of_entry = sums.entries.setdefault(row.entry, {})
            found = of_entry.setdefault(row.provider or UNKNOWN, UsageSum())
        elif not row.of_model:
            found = sums.by_model.setdefault(row.model or UNKNOWN, UsageSum())
        else:
            found = sums.by_feature.setdefault((row.mandate_no, row.feature_code or UNKNOWN), UsageSum())
        found.add(int(row.cost), int(row.charges))
    sums.names = distinct_names(await _named(connection, {mandate_no for mandate_no, _ in sums.by_feature}))
    return sums


async def read_members(connection: AsyncConnection, scope: Scope, period: StatisticsPeriod) -> dict[str, UsageSum]:
    """What the scope shows of a period by what members are called; `unknown` is what is no member's. It reads their
    rollups, so it costs more the more members there are."""
    used = (
        _of_rollups(period)
        .where(rollups.c.member_account_no == accounts.c.no)
        .correlate(mandates, accounts)
        .offset(0)
        .lateral("used")
    )
    of_use = sa.and_(dimensions.c.mandate_no == mandates.c.no, dimensions.c.no == used.c.dimension_no)
    user, name = accounts.c.user_id, directory_users.c.display_name
    read = (
        sa.select(user, name, sa.func.sum(used.c.cost).label("cost"), sa.func.sum(used.c.count).label("charges"))
        .select_from(
            mandates.join(accounts, accounts.c.mandate_no == mandates.c.no)
            .join(used, sa.true())
            .join(dimensions, of_use)
            .outerjoin(directory_users, directory_users.c.id == user)
        )
        .where(scope.shows_mandate(mandates.c.id))
        .where(scope.shows_row(mandates.c.id, user, dimensions.c.feature_instance_id))
        .group_by(user, name)
        .order_by(user)
    )
    rows = (await connection.execute(read)).all()
    names = distinct_names(
        {row.user_id: Named(row.user_id or UNKNOWN, row.display_name or row.user_id or UNKNOWN) for row in rows}
    )
    return {names[row.user_id]: UsageSum(int(row.cost), int(row.charges)) for row in rows}


async def _named(connection: AsyncConnection, numbers: Collection[int]) -> dict[int, Named]:
    read = (
        sa.select(mandates.c.no, mandates.c.id, directory_mandates.c.label, directory_mandates.c.name)
        .select_from(mandates.outerjoin(directory_mandates, directory_mandates.c.id == mandates.c.id))
        .where(one_of(mandates.c.no, sorted(numbers)))
        .order_by(mandates.c.no)
    )
    rows = await connection.execute(read)
    return {row.no: Named(row.id, display_name(row.label, row.name, row.id)) for row in rows}


def _grouped(scope: Scope, period: StatisticsPeriod) -> sa.Select[Any]:
    """The sums that answers are made of: by entry and provider, by model, and by mandate and feature. The columns of
    `of_entry` and `of_model` are 0 where a row is of that kind."""
    used = sa.union_all(*usage_parts(scope, period)).lateral("used")
    entry, provider, model, feature = used.c.entry, dimensions.c.provider, dimensions.c.model, dimensions.c.feature_code
    return (
        sa.select(
            entry,
            provider,
            model,
            mandates.c.no.label("mandate_no"),
            feature,
            sa.func.grouping(entry).label("of_entry"),
            sa.func.grouping(model).label("of_model"),
            sa.func.sum(used.c.cost).label("cost"),
            sa.func.sum(used.c.count).label("charges"),
        )
        .select_from(
            mandates.join(used, sa.true()).join(
                dimensions, sa.and_(dimensions.c.mandate_no == mandates.c.no, dimensions.c.no == used.c.dimension_no)
            )
        )
        .where(scope.shows_mandate(mandates.c.id))
        .group_by(
            sa.func.grouping_sets(sa.tuple_(entry, provider), sa.tuple_(model), sa.tuple_(mandates.c.no, feature))
        )
    )


def usage_parts(scope: Scope, period: StatisticsPeriod) -> Sequence[sa.Select[Any]]:
    """The rollups of one mandate that the scope shows, in parts of which none has a row of another: of all members
    where it shows the whole mandate; else the caller's own, and everybody's for the instances that the caller
    administers, in their mandates."""
    if scope.everything:
        return _of_everybody(period)
    administered = one_of(mandates.c.id, scope.administered)
    parts = [part.where(administered) for part in _of_everybody(period)] if scope.administered else []
    instances = _dimensions_of_instances(scope)
    own = _of_member(scope.user_id, period).where(one_of(mandates.c.id, scope.member_of), ~administered)
    if not scope.instances:
        return [*parts, own]
    parts.append(own.where(rollups.c.dimension_no.not_in(instances)))
    for part in _of_everybody(period):
        parts.append(part.where(~administered, part.selected_columns.dimension_no.in_(instances)))
    return parts


def _of_everybody(period: StatisticsPeriod) -> list[sa.Select[Any]]:
    """A mandate's rollups; of the days that are summed the sums, and of the days after those the rollups by member, so
    that none is read of a day before."""
    kept, until = rollup_sums.c, mandates.c.summed_until
    in_period = kept.first_day.between(period.first, period.last)
    of_sums = sa.select(kept.first_day.label("entry"), kept.dimension_no, kept.cost, kept.count).where(
        until.is_not(None), kept.mandate_no == mandates.c.no, kept.period == period.grain, in_period
    )
    # OFFSET 0 keeps it a look-up of each account, whatever the statistics.
    later = _of_rollups(period).where(rollups.c.member_account_no == accounts.c.no, rollups.c.day > until)
    of_account = later.correlate(mandates, accounts).offset(0).lateral("of_account")
    since = sa.select(of_account).select_from(accounts.join(of_account, sa.true()))
    since = since.where(until.is_not(None), until < period.last, accounts.c.mandate_no == mandates.c.no)
    not_summed = _of_rollups(period).where(until.is_(None))
    return [of_sums.correlate(mandates), since.correlate(mandates), not_summed]


def _of_member(user_id: str, period: StatisticsPeriod) -> sa.Select[Any]:
    of_account = sa.and_(rollups.c.mandate_no == accounts.c.mandate_no, rollups.c.member_account_no == accounts.c.no)
    of_member = sa.and_(
        accounts.c.mandate_no == mandates.c.no, accounts.c.type == "USER", accounts.c.user_id == user_id
    )
    return _of_rollups(period).select_from(accounts.join(rollups, of_account)).where(of_member)


def _of_rollups(period: StatisticsPeriod) -> sa.Select[Any]:
    day: sa.ColumnElement[Any] = rollups.c.day
    if period.grain == "month":
        day = sa.cast(sa.func.date_trunc("month", sa.cast(day, sa.TIMESTAMP)), sa.Date)
    cost = sa.cast(rollups.c.cost, sa.Numeric).label("cost")
    return (
        sa.select(day.label("entry"), rollups.c.dimension_no, cost, rollups.c.count)
        .where(rollups.c.mandate_no == mandates.c.no, rollups.c.day.between(period.first, period.last))
        .correlate(mandates)
    )


def _dimensions_of_instances(scope: Scope) -> sa.Select[Any]:
    """The dimensions of the instances that the caller administers, in a mandate that has one: a publisher may name an
    instance of another mandate."""
    of_instances = sa.and_(
        dimensions.c.mandate_no == mandates.c.no,
        one_of(mandates.c.id, scope.instance_mandates),
        one_of(dimensions.c.feature_instance_id, scope.instances),
    )
    return sa.select(dimensions.c.no).where(of_instances).correlate(mandates)
