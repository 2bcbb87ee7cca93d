"""Lists of the directory: by cursor, for programs that read all of it, or by page, for people."""

from typing import Any

import sqlalchemy as sa

from services.chassis.database import Database
from services.chassis.lists.bodies import page_info
from services.chassis.lists.cursors import cursor_of, read_cursor
from services.chassis.lists.errors import InvalidPagination, PaginationFault
from services.chassis.lists.pagination import parse_pagination
from services.chassis.validation import both
from services.gateway.directory import queries
from services.gateway.directory.bodies import ListQuery
from services.gateway.directory.domain.entries import Kind
from services.gateway.directory.queries import View

__all__ = ["list_entries"]

_ONE_OF_TWO = both("a list has a cursor or a pagination", "eine Liste hat einen cursor oder eine pagination")


async def list_entries(
    database: Database, kind: Kind, view: View, query: ListQuery, *, page_size_max: int
) -> dict[str, Any]:
    """The entries of the view, in the form that the query asks for."""
    if query.pagination:
        if query.cursor is not None:
            raise InvalidPagination(fault=_ONE_OF_TWO)
        return await _by_page(database, kind, view, query.pagination, page_size_max)
    if query.limit > page_size_max:
        most = both(f"limit is at most {page_size_max}", f"limit ist höchstens {page_size_max}")
        raise InvalidPagination(fault=most)
    entries, more = await queries.entry_slice(database, kind, view, after=_place(query, kind), limit=query.limit)
    cursor = cursor_of(kind.name, kind.key_of(entries[-1].row())) if more else None
    return {"items": entries, "nextCursor": cursor}


async def _by_page(database: Database, kind: Kind, view: View, text: str, page_size_max: int) -> dict[str, Any]:
    try:
        request = parse_pagination(text, queries.columns_of(kind, view), page_size_max=page_size_max)
    except PaginationFault as fault:
        raise InvalidPagination(fault=fault.texts) from None
    entries, total = await queries.page_of_entries(database, kind, view, request)
    return {"items": entries, "pagination": page_info(request, total)}


def _place(query: ListQuery, kind: Kind) -> list[Any] | None:
    """The key of the last entry before the part that is asked for."""
    if query.cursor is None:
        return None
    try:
        return read_cursor(query.cursor, kind.name, [sa.Text()] * len(kind.key))
    except PaginationFault as fault:
        raise InvalidPagination(fault=fault.texts) from None
