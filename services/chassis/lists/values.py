"""The values of filters, read by the type of their column."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

from services.chassis.lists.columns import OPERATORS, Column, ColumnType, Filter, Operator, Value
from services.chassis.lists.errors import PaginationFault

__all__ = ["Given", "read_filter"]

# A value as it stands in the JSON.
Given = str | bool | int | Decimal | None

# Far more digits than any number of a list, and few enough for the database.
DIGITS_MAX = 40
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_EXPECTED: dict[ColumnType, tuple[str, str]] = {
    "text": ("text", "Text"),
    "ids": ("text", "Text"),
    "flag": ("true or false", "true oder false"),
    "number": (f"a number of at most {DIGITS_MAX} digits", f"eine Zahl von höchstens {DIGITS_MAX} Stellen"),
    "time": (
        "a day (2026-05-01) or a time with its offset (2026-05-01T12:00:00Z)",
        "ein Tag (2026-05-01) oder eine Zeit mit Offset (2026-05-01T12:00:00Z)",
    ),
}


def read_filter(column: Column, operator: Operator, given: Given | Sequence[Given]) -> Filter:
    """The condition that a request sets on a column; `PaginationFault` where operator and values do not fit it."""
    name = column.name
    if operator not in OPERATORS[column.type]:
        raise PaginationFault(f"{name} cannot be asked {operator}", f"{name} kann nicht mit {operator} gefragt werden")
    several = isinstance(given, list | tuple)
    values: Sequence[Given] = given if isinstance(given, list | tuple) else (given,)
    if operator == "isEmpty":
        if given is not None and not isinstance(given, bool):
            raise PaginationFault(f"{name}: isEmpty takes true or false", f"{name}: isEmpty nimmt true oder false")
        return Filter(column, operator, (given is not False,))
    if operator == "between":
        if not several or len(values) != 2:
            raise PaginationFault(f"{name}: between takes two values", f"{name}: between nimmt zwei Werte")
    elif several != (operator == "in"):
        en, de = ("a list", "eine Liste") if operator == "in" else ("one value", "einen Wert")
        raise PaginationFault(f"{name}: {operator} takes {en}", f"{name}: {operator} nimmt {de}")
    # Null is allowed only in a test of equality.
    equality = operator in ("equals", "notEquals", "in")
    return Filter(column, operator, tuple(_value(column, each, nullable=equality) for each in values))


def _value(column: Column, given: Given, *, nullable: bool) -> Value:
    value = None if given is None else _READERS[column.type](given)
    if value is None and not (nullable and given is None):
        en, de = _EXPECTED[column.type]
        raise PaginationFault(f"{column.name} is compared with {en}", f"{column.name} wird mit {de} verglichen")
    return value


def _text(given: Given) -> Value:
    return given if isinstance(given, str) else None


def _flag(given: Given) -> Value:
    return given if isinstance(given, bool) else None


def _number(given: Given) -> Value:
    """The exact number of a JSON number, or of its text, as the distinct values of a column are given."""
    if isinstance(given, bool) or given is None:
        return None
    if isinstance(given, str):
        return Decimal(given) if _NUMBER.fullmatch(given) else None
    number = Decimal(given)
    exponent = number.as_tuple().exponent
    fits = isinstance(exponent, int) and abs(exponent) <= DIGITS_MAX and number.adjusted() < DIGITS_MAX
    return number if fits and len(number.as_tuple().digits) <= 2 * DIGITS_MAX else None


def _time(given: Given) -> Value:
    """A day, or a moment in UTC."""
    if not isinstance(given, str):
        return None
    try:
        if _DAY.fullmatch(given):
            return date.fromisoformat(given)
        if _TIME.fullmatch(given):
            return datetime.fromisoformat(given.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        # A month 13, or a moment before the year 1.
        return None
    return None


_READERS = {"text": _text, "ids": _text, "flag": _flag, "number": _number, "time": _time}
