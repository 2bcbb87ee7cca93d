"""Shared by both import formats: strict JSON, and results that name everything that could not be read."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from services.billing.pricing.version import PriceVersion

__all__ = [
    "DECIMAL_LENGTH_MAX",
    "PriceFile",
    "PriceFileError",
    "Unreadable",
    "is_decimal",
    "load_json",
]

FILE_BYTES_MAX = 32 * 1024 * 1024
INTEGER_DIGITS_MAX = 1_000
DECIMAL_LENGTH_MAX = 64
_DECIMAL = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_ENTRY_MAX = 300
_WHY_MAX = 1000


class PriceFileError(ValueError):
    """A file that is no price file at all, so that nothing in it can be taken."""


class Unreadable(NamedTuple):
    """An entry, or a part of one, that was not taken, and why."""

    entry: str
    why: str

    @classmethod
    def of(cls, entry: str, why: str) -> Unreadable:
        """Cuts and escapes what came from the file, so that it can be stored and sent whatever it was."""
        return cls(_plain(entry, _ENTRY_MAX), _plain(why, _WHY_MAX))


class PriceFile(NamedTuple):
    """The prices of a file, and everything in it that is not among them: whole entries, and parts of those taken.

    `all_or_nothing`: a single entry that cannot be read keeps all others out of the book.
    """

    versions: tuple[PriceVersion, ...]
    unreadable: tuple[Unreadable, ...]
    partly_read: tuple[Unreadable, ...] = ()
    all_or_nothing: bool = False


def is_decimal(text: str) -> bool:
    """Whether a text is a decimal number of a length that a price can have."""
    return len(text) <= DECIMAL_LENGTH_MAX and _DECIMAL.fullmatch(text) is not None


def load_json(data: bytes) -> dict[str, Any]:
    """The JSON object of a file, with every number that has a point or an exponent as the decimal it says.

    A float would change prices like 1.3E-10, and of a key given twice one price would be lost.
    """
    if len(data) > FILE_BYTES_MAX:
        raise PriceFileError(f"the file is larger than {FILE_BYTES_MAX} bytes")
    try:
        text = data.decode("utf-8-sig")
        parsed = json.loads(
            text, parse_float=_decimal, parse_int=_integer, parse_constant=_refuse, object_pairs_hook=_once
        )
    except RecursionError:
        raise PriceFileError("the file is nested too deeply") from None
    except PriceFileError:
        raise
    except json.JSONDecodeError as error:
        raise PriceFileError(f"the file is not JSON at line {error.lineno}, column {error.colno}") from None
    except ValueError:
        raise PriceFileError("the file is not JSON in UTF-8") from None
    if not isinstance(parsed, dict):
        raise PriceFileError("the file is not a JSON object")
    return parsed


def _decimal(literal: str) -> Decimal:
    try:
        return Decimal(literal)
    except InvalidOperation:
        raise PriceFileError(f"{literal[:64]} is beyond every number that can be kept") from None


def _integer(literal: str) -> int | Decimal:
    """An integer; a decimal where there are more digits than Python converts, so that its entry alone is refused."""
    return int(literal) if len(literal) <= INTEGER_DIGITS_MAX else _decimal(literal)


def _refuse(constant: str) -> None:
    raise PriceFileError(f"{constant} is not a number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise PriceFileError(f"the key {doubled!r} is given twice in one object")
    return fields


def _plain(text: str, length_max: int) -> str:
    kept = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return kept[:length_max]
