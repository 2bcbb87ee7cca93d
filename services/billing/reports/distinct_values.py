"""The distinct values of a column of transactions, of which somebody chooses by what to filter."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.reports.errors import TooManyValues
from services.billing.reports.extent import DayBorders, day_borders
from services.billing.reports.listing import Listing, ListLimits
from services.billing.reports.movement_values import computed_from, from_row, row, rows_of
from services.billing.reports.plain_charges import of_numbers, of_plain_charge, row_columns
from services.billing.reports.scope import Scope
from services.billing.tables import mandates, transactions, usage_descriptions
from services.chassis.database import Database
from services.chassis.lists.columns import Column
from services.chassis.lists.errors import InvalidPagination, PaginationFault
from services.chassis.lists.reading import list_reading
from services.chassis.statements import one_of

__all__ = ["distinct_values"]

_Condition = sa.ColumnElement[bool]
_Value = sa.ColumnElement[Any]
_TIME = sa.DateTime(timezone=True)
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2300, 1, 1, tzinfo=UTC)
# What usage is described by is kept for each dimension.
_DIMENSION = frozenset({"mandate_no", "dimension_no"})


async def distinct_values(
    database: Database, scope: Scope, column: str, pagination: str, limits: ListLimits
) -> list[str]:
    """The distinct values of a column under the filters of the others, in their order, as text; 400 where there are
    more than an answer can have."""
    async with list_reading(database, statement_s=limits.statement_s) as connection:
        listing = await Listing.read(connection, scope, pagination, limits)
        try:
            named = listing.columns.to_filter_by(column)
        except PaginationFault as fault:
            raise InvalidPagination(fault=fault.texts) from None
        others = tuple(each for each in listing.request.filters if each.column.name != named.name)
        listing = replace(listing, request=replace(listing.request, filters=others, sort=()))
        values = await _values(connection, listing, named, limits)
    if len(values) > limits.values_max:
        raise TooManyValues(column=named.name, most=limits.values_max)
    return values


async def _values(connection: AsyncConnection, listing: Listing, column: Column, limits: ListLimits) -> list[str]:
    """Up to one more than an answer can have."""
    if column.type == "time":
        return [day.isoformat() for day in await _days(connection, listing, column)][: limits.values_max + 1]
    described = listing.extent.described
    numbers = of_numbers(column, described=described)
    known = None if numbers is None else listing.distinct(numbers)
    if known is not None:
        plain, beside = known
        of_plain = partial(of_plain_charge, described=described)
        found = [_values_of(each.subquery(), column, of_plain) for each in plain]
        return await _read(connection, column, [*found, *_values_beside(listing, column, beside)], limits)
    recent = await _recent_values(connection, listing, column, limits)
    if recent is not None:
        return recent
    return await _read(connection, column, [_values_of_rows(listing, column, listing.conditions())], limits)


async def _recent_values(
    connection: AsyncConnection, listing: Listing, column: Column, limits: ListLimits
) -> list[str] | None:
    """The values, where the newest rows of a mandate say what they are: they have more of them than an answer can have,
    or every description that usage of its dimensions has. None where all rows have to be read."""
    if column.name == "description":
        described = await _recent_descriptions(connection, listing, column, limits)
        if described is not None:
            return described
    # Where most rows have a value of their own, half as many again are enough.
    since = await _since(connection, listing, 3 * limits.values_max // 2)
    if since is None:
        return None
    values = await _read(connection, column, [_values_since(listing, column, since)], limits)
    return values if len(values) > limits.values_max else None


async def _recent_descriptions(
    connection: AsyncConnection, listing: Listing, column: Column, limits: ListLimits
) -> list[str] | None:
    """The descriptions, where the newest rows have all that plain charges can have; of other rows every one is
    looked at."""
    by_dimension = listing.distinct(_DIMENSION)
    since = None if by_dimension is None else await _since(connection, listing, limits.recent_rows)
    if by_dimension is None or since is None:
        return None
    plain, beside = by_dimension
    possible = await _possible(connection, plain, column, limits)
    if possible is None:
        return None
    recent = _values_since(listing, column, since)
    values = await _read(connection, column, [recent], limits)
    if len(values) > limits.values_max:
        return values
    # All other rows are looked at only where that tells; else they would be once more, with all rows.
    told = possible <= set(values)
    return await _read(connection, column, [recent, *_values_beside(listing, column, beside)], limits) if told else None


async def _since(connection: AsyncConnection, listing: Listing, rows: int) -> datetime | None:
    """The time after which a mandate has so many rows, of those at times that are listed, or fewer where some are at
    that time, too; None where it has no more, and for several mandates, none of which has the newest rows of all."""
    extent = listing.extent
    if extent.mandates is None or len(extent.mandates) != 1:
        return None
    in_time = [each for each in listing.conditions() if row_columns(each) == {"occurred_at"}]
    newest = sa.select(row.occurred_at).where(extent.of_mandates(), *in_time).order_by(row.occurred_at.desc())
    since: datetime | None = await connection.scalar(newest.offset(rows).limit(1))
    return since


async def _possible(
    connection: AsyncConnection, plain: Sequence[sa.Select[Any]], column: Column, limits: ListLimits
) -> set[str] | None:
    """The descriptions that plain charges of dimensions can have; None where not all of them are kept
    (`ledger/descriptions.py`), or where dimensions have more than an answer can have, each with its own: to look
    through those would take longer than to read the rows of somebody who has few."""
    if not plain:
        return set()
    charges, kept = sa.union_all(*plain).subquery("charges"), usage_descriptions.c
    of_dimension = sa.and_(*(kept[name] == charges.c[name] for name in sorted(_DIMENSION)))
    columns = [*(charges.c[name] for name in sorted(_DIMENSION)), kept.description]
    of_each = sa.select(*columns).select_from(charges.outerjoin(usage_descriptions, of_dimension))
    said = of_each.limit(limits.values_max + 1).subquery("said")
    value, tables = computed_from(said, column, partial(of_plain_charge, described=True))
    is_unknown = sa.func.bool_or(said.c.description.is_(None)).label("is_unknown")
    read = sa.select(value.label("value"), is_unknown, sa.func.count().label("times"))
    found = (await connection.execute(read.select_from(tables).group_by(value))).all()
    if sum(each.times for each in found) > limits.values_max or any(each.is_unknown for each in found):
        return None
    return {each.value for each in found}


async def _read(
    connection: AsyncConnection, column: Column, found: Sequence[sa.Select[Any]], limits: ListLimits
) -> list[str]:
    value = sa.union_all(*found).subquery("found").c.value
    values = await connection.scalars(sa.select(value).distinct().order_by(value).limit(limits.values_max + 1))
    return [format(each.normalize(), "f") if column.type == "number" else str(each) for each in values]


def _values_since(listing: Listing, column: Column, since: datetime) -> sa.Select[Any]:
    return _values_of_rows(listing, column, [*listing.conditions(), row.occurred_at > since])


def _values_beside(listing: Listing, column: Column, beside: Sequence[Sequence[_Condition]]) -> list[sa.Select[Any]]:
    return [_values_of_rows(listing, column, conditions) for conditions in beside]


def _values_of_rows(listing: Listing, column: Column, conditions: Sequence[_Condition]) -> sa.Select[Any]:
    # First what the value is computed from, as narrow as the row has it, so that names are looked up once for each.
    of_rows = sa.select(*from_row(column)).select_from(rows_of(listing.tables())).distinct()
    return _values_of(of_rows.where(listing.extent.of_mandates(), *conditions).subquery("kept"), column)


def _values_of(
    kept: sa.Subquery, column: Column, of_rows: Callable[[_Value], _Value] = lambda value: value
) -> sa.Select[Any]:
    """The values of a column, by what it is computed from."""
    value, tables = computed_from(kept, column, of_rows)
    said = [value.is_not(None)] if column.type == "number" else [value.is_not(None), value != ""]
    return sa.select(value.label("value")).select_from(tables).where(*said)


async def _days(connection: AsyncConnection, listing: Listing, column: Column) -> list[date]:
    """The days on which rows fall, each in its mandate's calendar."""
    found: set[date] = set()
    for calendar, numbers in listing.extent.calendars:
        first, last = await _first_and_last(connection, column, numbers)
        if first is None or last is None:
            continue
        borders = day_borders(calendar, first, last)
        # By the index of one mandate a row of each day is found at once; else every row is looked at, once.
        by_index = len(numbers) == 1 and column.name == "createdAt"
        read = _days_with_a_row if by_index else _days_of_rows
        found |= {borders[at - 1][0] for at in await connection.scalars(read(listing, column, numbers, borders))}
    return sorted(found)


def _days_with_a_row(
    listing: Listing, column: Column, numbers: Sequence[int], borders: Sequence[DayBorders]
) -> sa.Select[Any]:
    """The places, from 1 on, of the days on which there is a row."""
    starts, ends = (sa.literal([each[part] for each in borders], sa.ARRAY(_TIME)) for part in (1, 2))
    given = sa.func.unnest(starts, ends).table_valued(
        sa.column("start", _TIME), sa.column("end", _TIME), with_ordinality="at"
    )
    day = given.render_derived(name="days")
    on_day = sa.and_(column.value >= day.c.start, column.value < day.c.end)
    rows = sa.select(sa.literal(1)).select_from(rows_of(listing.tables(column)))
    rows = rows.where(transactions.c.mandate_no == numbers[0], on_day, *listing.conditions()).correlate(day)
    return sa.select(day.c.at).where(rows.exists())


def _days_of_rows(
    listing: Listing, column: Column, numbers: Sequence[int], borders: Sequence[DayBorders]
) -> sa.Select[Any]:
    """The same, of rows in whatever order."""
    starts = sa.literal([each[1] for each in borders], sa.ARRAY(_TIME))
    in_time = sa.and_(column.value >= borders[0][1], column.value < borders[-1][2])
    rows = sa.select(sa.func.width_bucket(column.value, starts, type_=sa.Integer)).distinct()
    rows = rows.select_from(rows_of(listing.tables(column)))
    return rows.where(one_of(transactions.c.mandate_no, numbers), in_time, *listing.conditions())


async def _first_and_last(
    connection: AsyncConnection, column: Column, numbers: Sequence[int]
) -> tuple[datetime | None, datetime | None]:
    """The first and the last time of mandates, each by its index; what no clock has said is left out."""
    each = mandates.alias("each")
    value = column.value
    of_each = sa.and_(transactions.c.mandate_no == each.c.no, value >= _EARLIEST, value < _LATEST)
    borders = sa.select(sa.func.min(value).label("first"), sa.func.max(value).label("last")).where(of_each)
    found = borders.correlate(each).lateral("borders")
    both = sa.select(sa.func.min(found.c.first), sa.func.max(found.c.last)).select_from(each.join(found, sa.true()))
    first, last = (await connection.execute(both.where(one_of(each.c.no, numbers)))).one()
    return first, last
