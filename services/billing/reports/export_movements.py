"""A list of transactions as CSV (RFC 4180): every row, whatever the number, in a bounded memory.

The database writes the lines, by the same columns as lists filter and sort by, and hands them out part by part as the
caller takes them. A text that a spreadsheet would take for a formula gets an apostrophe in front.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import sqlalchemy as sa

from services.billing.reports.errors import TooManyExports
from services.billing.reports.listing import Listing, ListLimits
from services.billing.reports.movement_values import rows_of
from services.billing.reports.scope import Scope
from services.chassis.database import Database
from services.chassis.lists.columns import Column
from services.chassis.lists.reading import list_reading

__all__ = ["CSV", "RunningExports", "export_movements"]

CSV: Final = "text/csv"
LINE_END: Final = "\r\n"
LINES_TAKEN = 1000
# How long an export waits for a place.
WAITING_S = 3.0
# How a cell begins that spreadsheets compute or run, also in full-width characters.
FORMULA_BEGINNINGS: Final = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"


class RunningExports:
    """Whose exports run, each with a connection and a snapshot of its own for as long as its caller reads. A caller has
    one at a time, so that nobody who reads slowly takes the places of all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._callers: set[str] = set()
        self._left = asyncio.Condition()

    @asynccontextmanager
    async def one(self, user_id: str) -> AsyncIterator[None]:
        """A place for one more; 503 where none becomes free in a moment."""
        try:
            async with asyncio.timeout(WAITING_S), self._left:
                await self._left.wait_for(lambda: self._has_room(user_id))
                self._callers.add(user_id)
        except TimeoutError:
            raise TooManyExports(headers={"Retry-After": "5"}) from None
        try:
            yield
        finally:
            self._callers.remove(user_id)
            async with self._left:
                self._left.notify_all()

    def _has_room(self, user_id: str) -> bool:
        return len(self._callers) < self._most and user_id not in self._callers


async def export_movements(
    database: Database, exports: RunningExports, scope: Scope, pagination: str, limits: ListLimits, *, export_s: float
) -> AsyncGenerator[bytes, None]:
    """The header of JSON names and the lines of all rows that the list has; its page counts for nothing."""
    async with exports.one(scope.user_id):
        until = asyncio.get_running_loop().time() + export_s
        async with list_reading(database, statement_s=export_s) as connection:
            listing = await Listing.read(connection, scope, pagination, limits)
            columns = list(listing.columns.by_name.values())
            yield (",".join(column.name for column in columns) + LINE_END).encode()
            read = _lines(listing, columns).execution_options(yield_per=LINES_TAKEN)
            async for part in (await connection.stream_scalars(read)).partitions():
                if asyncio.get_running_loop().time() > until:
                    raise TimeoutError
                yield "".join(part).encode()


def _lines(listing: Listing, columns: list[Column]) -> sa.Select[Any]:
    fields: list[Any] = []
    for column in columns:
        fields += [_field(column), ","]
    line = sa.func.concat(*fields[:-1], LINE_END, type_=sa.Text)
    rows = sa.select(line).select_from(rows_of(listing.tables(*columns)))
    rows = rows.where(listing.extent.of_mandates(), *listing.conditions())
    return rows.order_by(*(term.ordered for term in listing.order))


def _field(column: Column) -> sa.ColumnElement[Any]:
    """A value as a field: numbers and times as in JSON, texts in quotes, nothing for none."""
    value = column.value
    if column.type == "number":
        return sa.cast(value, sa.Text)
    if column.type == "time":
        return sa.func.to_char(sa.func.timezone("UTC", value), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    risky = sa.func.strpos(sa.literal(FORMULA_BEGINNINGS, sa.Text), sa.func.left(value, 1)) > 0
    safe = sa.case((sa.and_(value != "", risky), sa.literal("'", sa.Text) + value), else_=value)
    return sa.literal('"', sa.Text) + sa.func.replace(safe, '"', '""') + sa.literal('"', sa.Text)
