"""Lists of the directory: by cursor, for programs that read all of it, or by page, for people."""

import base64
import binascii
import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rappen_contracts.types import Name
from services.chassis.database import Database
from services.chassis.validation import both, faults_of, summary
from services.gateway.directory import queries
from services.gateway.directory.bodies import ListQuery
from services.gateway.directory.domain.entries import Entry, Kind
from services.gateway.directory.domain.pagination import PaginationFault, parse_pagination
from services.gateway.directory.errors import InvalidPagination
from services.gateway.directory.queries import View

__all__ = ["list_entries"]

_KEY = TypeAdapter(list[Name])

_ONE_OF_TWO = both("a list has a cursor or a pagination", "eine Liste hat einen cursor oder eine pagination")
_FOREIGN_CURSOR = both("the cursor is none of ours", "der cursor ist keiner von uns")
_OTHER_CURSOR = both("the cursor is another list's", "der cursor gehört zu einer anderen Liste")


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
    after = None if query.cursor is None else _key_in(query.cursor, kind)
    entries, more = await queries.entry_slice(database, kind, view, after=after, limit=query.limit)
    cursor = _cursor_behind(entries[-1], kind) if more else None
    return {"items": entries, "nextCursor": cursor}


async def _by_page(database: Database, kind: Kind, view: View, text: str, page_size_max: int) -> dict[str, Any]:
    try:
        request = parse_pagination(text, queries.columns_of(kind, view), page_size_max=page_size_max)
    except PaginationFault as fault:
        texts = fault.texts if fault.error is None else summary(faults_of(fault.error, prefix="pagination")[:1])
        raise InvalidPagination(fault=texts) from None
    entries, total = await queries.page_of_entries(database, kind, view, request)
    given = request.given
    return {
        "items": entries,
        "pagination": {
            "currentPage": given.page,
            "pageSize": given.page_size,
            "totalItems": total,
            "totalPages": -(-total // given.page_size),
            "sort": given.sort,
            "filters": given.filters,
        },
    }


def _cursor_behind(entry: Entry, kind: Kind) -> str:
    return base64.urlsafe_b64encode(json.dumps(kind.key_of(entry.row())).encode()).decode().rstrip("=")


def _key_in(cursor: str, kind: Kind) -> list[str]:
    """The key of the last entry before the page, out of a cursor, which is opaque to callers and checked like all
    input."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key = _KEY.validate_json(text)
    except (ValidationError, binascii.Error, ValueError):
        raise InvalidPagination(fault=_FOREIGN_CURSOR) from None
    if len(key) != len(kind.key):
        raise InvalidPagination(fault=_OTHER_CURSOR)
    return key
