"""Lists of transactions: pages, parts by cursor, the newest."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.reports.listing import Listing, ListLimits, Part
from services.billing.reports.movement_values import KEY, movement_rows, rows_of
from services.billing.reports.scope import Scope
from services.billing.reports.transactions import transaction_json, user_transaction_json
from services.billing.tables import accounts, mandates, transactions
from services.chassis.database import Database
from services.chassis.lists.bodies import page_info
from services.chassis.lists.cursors import cursor_of, read_cursor
from services.chassis.lists.errors import InvalidPagination, PaginationFault
from services.chassis.lists.order import behind
from services.chassis.lists.reading import list_reading
from services.chassis.statements import one_of

__all__ = ["list_newest", "list_page", "list_part"]

_Condition = sa.ColumnElement[bool]
_Value = sa.ColumnElement[Any]
# An empty pagination.
NEWEST_FIRST = "{}"


async def list_newest(
    database: Database, scope: Scope, limits: ListLimits, *, limit: int, offset: int = 0, users: bool = False
) -> list[dict[str, Any]]:
    """The newest rows of a scope; `users` says whose each is."""
    async with list_reading(database, statement_s=limits.statement_s) as connection:
        listing = await Listing.read(connection, scope, NEWEST_FIRST, limits)
        rows = await _rows(connection, listing, limit=limit, offset=offset)
    return [user_transaction_json(row) if users else transaction_json(row) for row in rows]


async def list_page(database: Database, scope: Scope, pagination: str, limits: ListLimits) -> dict[str, Any]:
    """One page, and how many there are. Who belongs to no mandate gets an empty list without any."""
    async with list_reading(database, statement_s=limits.statement_s) as connection:
        listing = await Listing.read(connection, scope, pagination, limits)
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
        listing = await Listing.read(connection, scope, pagination, limits)
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
    found = keys.join(
        transactions, sa.and_(row.mandate_no == key[0], row.posted_account_no == key[1], row.seq == key[2])
    )
    read = (
        movement_rows(listing.extent.shows_balance(), found)
        .add_columns(*(term.value for term in terms))
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
