"""Filters and searches as conditions of SQL. Every value is a parameter, and no statement grows with the values of a
filter."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Protocol

import sqlalchemy as sa

from services.chassis.lists.columns import Column, Columns, Filter, Value
from services.chassis.statements import one_of

__all__ = ["UTC_DAYS", "Begin", "Days", "conditions_of", "matches", "searched"]

_Condition = sa.ColumnElement[bool]
# The first moment of a day.
Begin = Callable[[date], datetime]

_LAST = datetime.max.replace(tzinfo=UTC)


class Days(Protocol):
    """Which days a list has: rows of different zones have different ones."""

    def each_zone(self, build: Callable[[Begin], _Condition]) -> _Condition:
        """The condition that `build` makes of the days of a zone, for the rows of each zone."""
        ...


class _UtcDays:
    def each_zone(self, build: Callable[[Begin], _Condition]) -> _Condition:
        """The days of UTC."""
        return build(lambda day: datetime.combine(day, time.min, UTC))


UTC_DAYS: Days = _UtcDays()


def conditions_of(filters: Iterable[Filter], search: str, columns: Columns, days: Days = UTC_DAYS) -> list[_Condition]:
    """What a row has to be to be listed."""
    found = [matches(each, days) for each in filters]
    return [*found, searched(columns, search)] if search else found


def searched(columns: Columns, text: str) -> _Condition:
    """Whether any of the columns that a search looks into has the text in it, whatever its case."""
    return sa.or_(sa.false(), *(_contains(column, text) for column in columns.searchable))


def matches(given: Filter, days: Days = UTC_DAYS) -> _Condition:
    """Whether a row meets the filter. A row without a value is met by no comparison, and differs from every value."""
    column, operator, values = given.column, given.operator, given.values
    if operator == "isEmpty":
        return _is_empty(column) if values[0] else sa.not_(_is_empty(column))
    if operator == "notEquals":
        return sa.not_(sa.func.coalesce(_equals(column, values, days), sa.false()))
    if operator in ("equals", "in") or column.type == "ids":
        return _equals(column, values, days)
    return _in_time(column, operator, values, days) if column.type == "time" else _compared(column, operator, values)


def _compared(column: Column, operator: str, values: Sequence[Value]) -> _Condition:
    value, first, last = column.value, _literal(column, values[0]), _literal(column, values[-1])
    compared: dict[str, Callable[[], _Condition]] = {
        "contains": lambda: _contains(column, str(values[0])),
        "startsWith": lambda: value.istartswith(str(values[0]), autoescape=True),
        "gt": lambda: value > first,
        "gte": lambda: value >= first,
        "lt": lambda: value < first,
        "lte": lambda: value <= first,
        "between": lambda: sa.and_(value >= first, value <= last),
    }
    return compared[operator]()


def _literal(column: Column, value: Value) -> Any:
    return sa.literal(value, column.value.type)


def _contains(column: Column, text: str) -> _Condition:
    return column.value.icontains(text, autoescape=True)


def _is_empty(column: Column) -> _Condition:
    empty: _Condition = column.value.is_(None)
    if column.type == "ids":
        return sa.or_(empty, sa.func.cardinality(column.value) == 0)
    return sa.or_(empty, column.value == "") if column.type == "text" else empty


def _equals(column: Column, values: Sequence[Value], days: Days) -> _Condition:
    given = [value for value in values if value is not None]
    if column.equals is not None:
        same = column.equals(given)
    elif column.type == "ids":
        same = column.value.op("&&", is_comparison=True)(sa.literal(given, column.value.type))
    elif column.type == "time":
        same = days.each_zone(lambda begin: _within(column, [_span(value, begin) for value in given]))
    else:
        same = one_of(column.value, given)
    return same if len(given) == len(values) else sa.or_(same, column.value.is_(None))


def _within(column: Column, spans: Sequence[tuple[datetime, datetime]]) -> _Condition:
    """Whether a time is in one of the spans [start, end)."""
    if len(spans) == 1:
        return sa.and_(column.value >= _literal(column, spans[0][0]), column.value < _literal(column, spans[0][1]))
    times = sa.ARRAY(column.value.type)
    unnested = sa.func.unnest(sa.literal([s[0] for s in spans], times), sa.literal([s[1] for s in spans], times))
    span = unnested.table_valued(
        sa.column("start", column.value.type), sa.column("end", column.value.type)
    ).render_derived(name="span")
    return sa.exists().where(column.value >= span.c.start, column.value < span.c.end)


def _in_time(column: Column, operator: str, values: Sequence[Value], days: Days) -> _Condition:
    """A day is the whole of it: after it is from its end on, up to it is before its end."""

    def build(begin: Begin) -> _Condition:
        (start, end), (_, last) = _span(values[0], begin), _span(values[-1], begin)
        compared: dict[str, _Condition] = {
            "gt": column.value >= _literal(column, end),
            "gte": column.value >= _literal(column, start),
            "lt": column.value < _literal(column, start),
            "lte": column.value < _literal(column, end),
            "between": sa.and_(column.value >= _literal(column, start), column.value < _literal(column, last)),
        }
        return compared[operator]

    return days.each_zone(build)


def _span(value: Value, begin: Begin) -> tuple[datetime, datetime]:
    """[start, end) of a day, or of the microsecond that a moment is; of what would end behind the last time, the start
    of that."""
    if isinstance(value, datetime):
        return value, value + timedelta(microseconds=1) if value < _LAST else _LAST
    if not isinstance(value, date):
        raise TypeError(f"{value!r} is no time")
    return begin(value), begin(value + timedelta(days=1)) if value < date.max else _LAST
