"""Cursors: the place of the last row of a part of a list, as text that is opaque to callers and checked like all
input."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import sqlalchemy as sa

from services.chassis.lists.errors import PaginationFault

__all__ = ["cursor_of", "read_cursor"]

# More than the longest place: ten texts of 500 letters, each of which JSON may write with six.
CURSOR_LENGTH_MAX = 50_000
_INTEGER_END = 2**63


def cursor_of(list_name: str, place: Sequence[Any]) -> str:
    """The cursor of a place in a list; the name says which list in which order, so that no other one takes it."""
    text = orjson.dumps([_mark(list_name), *map(_wire, place)])
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def read_cursor(cursor: str, list_name: str, types: Sequence[sa.types.TypeEngine[Any]]) -> list[Any]:
    """The place in the list, whose values are of the types; raises `PaginationFault`."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = orjson.loads(text)
    except (binascii.Error, ValueError):
        place = None
    if not isinstance(place, list) or not place or len(cursor) > CURSOR_LENGTH_MAX:
        raise PaginationFault("the cursor is none of ours", "der cursor ist keiner von uns")
    mark, *values = place
    if mark != _mark(list_name) or len(values) != len(types):
        raise PaginationFault("the cursor is another list's", "der cursor gehört zu einer anderen Liste")
    try:
        return [_value(value, type_) for value, type_ in zip(values, types, strict=True)]
    except (ValueError, ArithmeticError, TypeError):
        raise PaginationFault("the cursor is none of ours", "der cursor ist keiner von uns") from None


def _mark(list_name: str) -> str:
    return hashlib.blake2b(list_name.encode(), digest_size=6).hexdigest()


def _wire(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return format(value, "f") if isinstance(value, Decimal) else value


def _value(value: Any, type_: sa.types.TypeEngine[Any]) -> Any:
    """The value as the driver takes it; ValueError for one of another type."""
    if value is None:
        return None
    expected = type_.python_type
    if expected is datetime:
        time = datetime.fromisoformat(value)
        if time.tzinfo is None:
            raise ValueError("a time without its offset")
        return time.astimezone(UTC)
    if expected is Decimal:
        number = Decimal(value)
        if not number.is_finite() or abs(number.adjusted()) > 100:
            raise ValueError("a number beyond every list")
        return number
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ValueError("another type")
    if isinstance(value, int) and not -_INTEGER_END <= value < _INTEGER_END:
        raise ValueError("a number beyond the database's")
    if isinstance(value, str) and "\x00" in value:
        raise ValueError("text with NUL")
    return value
