"""The part of the ledger that a scope covers, in the numbers that its rows and indexes have.

Names are looked up once, before the rows are read: so a condition on a row looks at nothing but the row.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.calendars import Calendar
from services.billing.mandates.repository import calendar_of
from services.billing.reports.scope import Scope
from services.billing.tables import accounts, dimensions, mandates, transactions, usage_descriptions
from services.chassis.lists.conditions import Begin
from services.chassis.statements import one_of

__all__ = ["CalendarDays", "DayBorders", "Extent", "day_borders", "extent_of"]

_Condition = sa.ColumnElement[bool]
# A day, and [start, end).
DayBorders = tuple[date, datetime, datetime]
_LAST = datetime.max.replace(tzinfo=UTC)
_SAYS_SOMETHING = usage_descriptions.c.description.is_distinct_from("")


@dataclass(frozen=True, slots=True)
class Extent:
    """Mandates by their numbers (None: every one), those of them whose rows are all shown, and whose and which other
    rows are: the caller's accounts, and the dimensions of the instances that they administer. And whether charges of
    usage can have a description."""

    user_id: str
    mandates: tuple[int, ...] | None
    whole: tuple[int, ...]
    own: tuple[int, ...]
    accounts: tuple[int, ...]
    dimensions: tuple[int, ...]
    calendars: tuple[tuple[Calendar, tuple[int, ...]], ...]
    described: bool

    @property
    def is_whole(self) -> bool:
        """Whether all rows of all its mandates are shown."""
        return self.mandates is None or set(self.whole) == set(self.mandates)

    def of_mandates(self) -> _Condition:
        """Whether a row is of its mandates."""
        return self.has_mandate(transactions.c.mandate_no)

    def has_mandate(self, number: sa.ColumnElement[int]) -> _Condition:
        """Whether the number is that of one of its mandates."""
        return sa.true() if self.mandates is None else _among(number, self.mandates)

    def shows(self) -> _Condition:
        """Whether a row of its mandates is shown."""
        if self.is_whole or not self.dimensions:
            return self.shows_balance()
        return sa.or_(self.shows_balance(), one_of(transactions.c.dimension_no, self.dimensions))

    def shows_balance(self) -> _Condition:
        """Whether the balance that a row left is shown too: not where only its feature instance is the caller's."""
        if self.is_whole:
            return sa.true()
        row, number = transactions.c, transactions.c.mandate_no
        # A row is its creator's, else that of the member whom it is about (S2). Numbers are compared first.
        about = sa.and_(
            _among(row.member_account_no, self.accounts), sa.func.coalesce(row.created_by_user_id, "") == ""
        )
        mine = sa.or_(about, row.created_by_user_id == self.user_id)
        if self.own == self.mandates and not self.whole:
            return mine
        return sa.or_(one_of(number, self.whole), sa.and_(one_of(number, self.own), mine))

    def days(self) -> "CalendarDays":
        """The days of its mandates."""
        return CalendarDays(self.calendars)


@dataclass(frozen=True, slots=True)
class CalendarDays:
    """The days of mandates, by the calendars that they have."""

    calendars: tuple[tuple[Calendar, tuple[int, ...]], ...]

    def each_zone(self, build: Callable[[Begin], _Condition]) -> _Condition:
        """What `build` makes of each calendar, for the rows of its mandates."""
        if len(self.calendars) == 1:
            return build(_begin(self.calendars[0][0]))
        of_each = [
            sa.and_(one_of(transactions.c.mandate_no, numbers), build(_begin(calendar)))
            for calendar, numbers in self.calendars
        ]
        return sa.or_(sa.false(), *of_each)


def _among(number: sa.ColumnElement[int], numbers: Sequence[int]) -> _Condition:
    return number == numbers[0] if len(numbers) == 1 else one_of(number, numbers)


def _begin(calendar: Calendar) -> Begin:
    def begin(day: date) -> datetime:
        return calendar.begin(day)

    return begin


def day_borders(calendar: Calendar, first: datetime, last: datetime) -> list[DayBorders]:
    """The days of a calendar on which times from the first to the last one fall, each with [start, end)."""
    day, end = calendar.day(first), calendar.day(last)
    borders = []
    while day <= end:
        following = day + timedelta(days=1) if day < date.max else None
        until = _LAST if following is None else calendar.begin(following)
        borders.append((day, calendar.begin(day), until))
        if following is None:
            break
        day = following
    # A calendar leaves out a day where a zone skipped one.
    return [(day, start, until) for day, start, until in borders if start < until]


async def extent_of(connection: AsyncConnection, scope: Scope) -> Extent:
    """The numbers of what a scope shows."""
    if scope.mandates is None:
        any_described = bool(await connection.scalar(sa.select(sa.exists().where(_SAYS_SOMETHING))))
        return Extent(scope.user_id, None, (), (), (), (), await _all_calendars(connection), any_described)
    described = sa.exists().where(usage_descriptions.c.mandate_no == mandates.c.no, _SAYS_SOMETHING).label("described")
    columns: list[Any] = [mandates.c.no, mandates.c.id, described]
    columns += [mandates.c.time_zone, mandates.c.past_time_zones]
    read = sa.select(*columns).where(one_of(mandates.c.id, scope.mandates)).order_by(mandates.c.no)
    rows = (await connection.execute(read)).mappings().all()
    numbers = tuple(row["no"] for row in rows)
    calendars: dict[Calendar, tuple[int, ...]] = {}
    for row in rows:
        calendar = calendar_of(row["no"], row["time_zone"], row["past_time_zones"])
        calendars[calendar] = (*calendars.get(calendar, ()), row["no"])
    return Extent(
        user_id=scope.user_id,
        mandates=numbers,
        whole=numbers if scope.everything else _numbers(rows, scope.administered),
        own=_numbers(rows, scope.member_of),
        accounts=await _accounts_of(connection, scope, numbers),
        dimensions=await _dimensions_of(connection, scope, _numbers(rows, scope.instance_mandates)),
        calendars=tuple(calendars.items()),
        described=any(row["described"] for row in rows),
    )


async def _all_calendars(connection: AsyncConnection) -> tuple[tuple[Calendar, tuple[int, ...]], ...]:
    """The calendars that there are, of many mandates each."""
    zone, past = mandates.c.time_zone, sa.cast(mandates.c.past_time_zones, JSONB)
    numbers = sa.func.array_agg(mandates.c.no, type_=sa.ARRAY(sa.Integer))
    read = sa.select(zone, past, numbers.label("numbers")).group_by(zone, past)
    found: dict[Calendar, tuple[int, ...]] = {}
    for row in await connection.execute(read):
        calendar = calendar_of(row.numbers[0], row.time_zone, row[1])
        found[calendar] = (*found.get(calendar, ()), *row.numbers)
    return tuple(found.items())


def _numbers(rows: Iterable[sa.RowMapping], ids: Sequence[str]) -> tuple[int, ...]:
    named = frozenset(ids)
    return tuple(row["no"] for row in rows if row["id"] in named)


async def _accounts_of(connection: AsyncConnection, scope: Scope, numbers: Sequence[int]) -> tuple[int, ...]:
    """The accounts of the caller as a member."""
    if scope.everything:
        return ()
    of_caller = sa.and_(accounts.c.type == "USER", accounts.c.user_id == scope.user_id)
    read = sa.select(accounts.c.no).where(one_of(accounts.c.mandate_no, numbers), of_caller)
    return tuple(await connection.scalars(read))


async def _dimensions_of(connection: AsyncConnection, scope: Scope, numbers: Sequence[int]) -> tuple[int, ...]:
    """What usage of the administered instances is booked under, in their mandates: a publisher may name an instance of
    another one."""
    if scope.everything or not scope.instances:
        return ()
    of_instances = one_of(dimensions.c.feature_instance_id, scope.instances)
    read = sa.select(dimensions.c.no).where(one_of(dimensions.c.mandate_no, numbers), of_instances)
    return tuple(await connection.scalars(read))
