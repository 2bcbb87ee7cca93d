"""Lists of transactions: pages, parts by cursor, the newest, the distinct values of a column."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.reports.errors import TooManyValues
from services.billing.reports.extent import DayBorders, day_borders, extent_of
from services.billing.reports.listing import Listing, Part
from services.billing.reports.movement_values import KEY, computed_from, from_row, movement_rows, rows_of
from services.billing.reports.plain_charges import of_numbers, of_plain_charge
from services.billing.reports.scope import Scope
from services.billing.reports.transactions import transaction_json, user_transaction_json
from services.billing.tables import accounts, mandates, transactions
from services.chassis.database import Database
from services.chassis.lists.bodies import page_info
from services.chassis.lists.columns import Column
from services.chassis.lists.cursors import cursor_of, read_cursor
from services.chassis.lists.errors import InvalidPagination, PaginationFault
from services.chassis.lists.order import behind
from services.chassis.lists.reading import list_reading
from services.chassis.statements import one_of

__all__ = ["ListLimits", "distinct_values", "list_newest", "list_page", "list_part"]

_Condition = sa.ColumnElement[bool]
_Value = sa.ColumnElement[Any]
# An empty pagination.
NEWEST_FIRST = "{}"
_TIME = sa.DateTime(timezone=True)
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2300, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ListLimits:
    """Rows of a page, distinct values in an answer, and seconds that one statement of a list may take."""

    page_size_max: int
    values_max: int
    statement_s: float


async def list_newest(
    database: Database, scope: Scope, limits: ListLimits, *, limit: int, offset: int = 0, users: bool = False
) -> list[dict[str, Any]]:
    """The newest rows of a scope; `users` says whose each is."""
    async with list_reading(database, statement_s=limits.statement_s) as connection:
        listing = Listing.of(await extent_of(connection, scope), NEWEST_FIRST, page_size_max=limits.page_size_max)
        rows = await _rows(connection, listing, limit=limit, offset=offset)
    return [user_transaction_json(row) if users else transaction_json(row) for row in rows]


async def list_page(database: Database, scope: Scope, pagination: str, limits: ListLimits) -> dict[str, Any]:
    """One page, and how many there are. Who belongs to no mandate gets an empty list without any."""
    async with list_reading(database, statement_s=limits.statement_s) as connection:
        listing = Listing.of(await extent_of(connection, scope), pagination, page_size_max=limits.page_size_max)
        if scope.mandates == ():
            return {"items": [], "pagination": None}
        request = listing.request
        total = await _total(connection, listing)
        rows: Sequence[sa.RowMapping] = []
        if request.offset < total:
            rows = await _rows(connection, listing, limit=request.given.page_size, offset=request.offset)
    return {"items": [user_transaction_json(row) for row in rows], "pagination": page_info(request, total)}


async def list_part(
    database: Database, scope: Scope, pagination: str, limits: ListLimits, *, cursor: str | None, limit: int
) -> dict[str, Any]:
    """Rows behind a cursor, or the first; filters, search and order are those of `pagination`."""
    if limit > limits.page_size_max:
        raise _invalid(f"limit is at most {limits.page_size_max}", f"limit ist höchstens {limits.page_size_max}")
    async with list_reading(database, statement_s=limits.statement_s) as connection:
        listing = Listing.of(await extent_of(connection, scope), pagination, page_size_max=limits.page_size_max)
        if listing.request.given.model_fields_set & {"page", "pageSize", "page_size"}:
            raise _invalid("a list has a cursor or pages", "eine Liste hat einen cursor oder Seiten")
        place = None if cursor is None else _place(cursor, listing)
        rows = await _rows(connection, listing, limit=limit + 1, place=place)
    more = len(rows) > limit
    last = rows[limit - 1] if more else None
    place_of_last = [] if last is None else [last[f"order_{index}"] for index in range(len(listing.order))]
    return {
        "items": [user_transaction_json(row) for row in rows[:limit]],
        "nextCursor": cursor_of(_order_name(listing), place_of_last) if more else None,
    }


async def distinct_values(
    database: Database, scope: Scope, column: str, pagination: str, limits: ListLimits
) -> list[str]:
    """The distinct values of a column under the filters of the others, in their order, as text; 400 where there are
    more than an answer can have."""
    async with list_reading(database, statement_s=limits.statement_s) as connection:
        listing = Listing.of(await extent_of(connection, scope), pagination, page_size_max=limits.page_size_max)
        try:
            named = listing.columns.to_filter_by(column)
        except PaginationFault as fault:
            raise InvalidPagination(fault=fault.texts) from None
        others = tuple(each for each in listing.request.filters if each.column.name != named.name)
        listing = replace(listing, request=replace(listing.request, filters=others, sort=()))
        values = await _values(connection, listing, named, limits.values_max + 1)
    if len(values) > limits.values_max:
        raise TooManyValues(column=named.name, most=limits.values_max)
    return values


async def _total(connection: AsyncConnection, listing: Listing) -> int:
    """How many rows the list has. Of whole mandates that is how many their accounts have, which the accounts know."""
    extent = listing.extent
    if listing.is_narrowed:
        return int(await connection.scalar(listing.count()) or 0)
    chains = sa.select(sa.func.coalesce(sa.func.sum(accounts.c.seq), 0)).where(
        accounts.c.type.in_(("MANDATE", "USER", "INTERNAL"))
    )
    if extent.mandates is not None:
        chains = chains.where(one_of(accounts.c.mandate_no, extent.mandates))
    return int(await connection.scalar(chains) or 0)


async def _rows(
    connection: AsyncConnection, listing: Listing, *, limit: int, offset: int = 0, place: Sequence[Any] | None = None
) -> Sequence[sa.RowMapping]:
    """Rows with what answers show of them. Which they are is found first, so that nothing is looked up for others."""
    keys = _keys(listing, limit=limit, offset=offset, place=place).cte("page")
    key = [keys.c[name] for name in ("mandate_no", "posted_account_no", "seq")]
    row = transactions.c
    terms = [term.named(keys.c[f"order_{index}"]) for index, term in enumerate(listing.order)]
    read = (
        movement_rows(listing.extent.shows_balance())
        .add_columns(*(term.value for term in terms))
        .join(keys, sa.and_(row.mandate_no == key[0], row.posted_account_no == key[1], row.seq == key[2]))
        .order_by(*(term.ordered for term in terms))
    )
    return (await connection.execute(read)).mappings().all()


def _keys(listing: Listing, *, limit: int, offset: int, place: Sequence[Any] | None) -> sa.Select[Any]:
    """The keys of the rows of a part of a list, with the values by which they are in order."""
    parts = listing.parts()
    if len(parts) == 1:
        return _keys_of(listing, parts[0], limit=limit, offset=offset, place=place)
    of_each = [_keys_of(listing, part, limit=limit + offset, offset=0, place=place).subquery() for part in parts]
    found = sa.union_all(*(sa.select(each) for each in of_each)).subquery("found")
    terms = [term.named(found.c[f"order_{index}"]) for index, term in enumerate(listing.order)]
    return sa.select(found).order_by(*(term.ordered for term in terms)).limit(limit).offset(offset)


def _keys_of(listing: Listing, part: Part, *, limit: int, offset: int, place: Sequence[Any] | None) -> sa.Select[Any]:
    extent, order = listing.extent, part.order
    values = [term.value.label(f"order_{index}") for index, term in enumerate(order)]
    found = sa.select(transactions.c.mandate_no, *KEY, *values).select_from(rows_of(listing.tables()))
    found = found.where(*part.conditions)
    if place is not None:
        found = found.where(behind(order, place))
    single = extent.mandates is not None and len(extent.mandates) == 1
    by_time = len(listing.request.sort) == 0 or listing.request.sort[0].column.name == "createdAt"
    if single or not by_time:
        ordered = found.where(extent.of_mandates()).order_by(*(term.ordered for term in order))
        return ordered.limit(limit).offset(offset)
    # Each mandate gives its own by its index before they are merged, so that a list costs the same whatever the size of
    # the ledger.
    each = mandates.alias("each")
    of_each = found.where(transactions.c.mandate_no == each.c.no).order_by(*(term.ordered for term in order))
    first = of_each.limit(limit + offset).correlate(each).lateral("first")
    merged = sa.select(first).select_from(each.join(first, sa.true()))
    if extent.mandates is not None:
        merged = merged.where(one_of(each.c.no, extent.mandates))
    terms = [term.named(first.c[f"order_{index}"]) for index, term in enumerate(order)]
    return merged.order_by(*(term.ordered for term in terms)).limit(limit).offset(offset)


async def _values(connection: AsyncConnection, listing: Listing, column: Column, limit: int) -> list[str]:
    if column.type == "time":
        return [day.isoformat() for day in await _days(connection, listing, column)][:limit]
    numbers = of_numbers(column)
    known = None if numbers is None else listing.distinct(numbers)
    if known is None:
        found = [_values_of_rows(listing, column, listing.conditions())]
    else:
        plain, beside = known
        found = [_values_of(each.subquery(), column, of_plain_charge) for each in plain]
        found += [_values_of_rows(listing, column, conditions) for conditions in beside]
    value = sa.union_all(*found).subquery("found").c.value
    read = sa.select(value).distinct().order_by(value).limit(limit)
    values = await connection.scalars(read)
    return [format(each.normalize(), "f") if column.type == "number" else str(each) for each in values]


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


def _place(cursor: str, listing: Listing) -> list[Any]:
    try:
        return read_cursor(cursor, _order_name(listing), [term.value.type for term in listing.order])
    except PaginationFault as fault:
        raise InvalidPagination(fault=fault.texts) from None


def _order_name(listing: Listing) -> str:
    order = [f"{each.column.name} {each.descending}" for each in listing.request.sort]
    return " ".join(["transactions", *order])


def _invalid(en: str, de: str) -> InvalidPagination:
    return InvalidPagination(fault=PaginationFault(en, de).texts)
