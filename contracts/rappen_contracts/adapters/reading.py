"""Reads what a provider answered: objects of an SDK or parsed JSON, with fields that may be unknown, null or missing.

Counts are strict, because what is read wrongly here is charged wrongly: a boolean, a fraction, a text or a negative
number is a `ContractError` that names the field as the provider spells it, and nothing of its value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import Enum
from typing import Final

from rappen_contracts.errors import ContractError
from rappen_contracts.types import DECIMAL_PLACES_MAX, INTEGER_DIGITS_MAX, INTEGER_MAX

__all__ = ["Part", "declared", "inner", "latest", "rest"]

# The class of what an SDK (Mistral's) puts in a field that was not in the answer.
_SENTINEL: Final = "Unset"
_SCALARS = (str, bytes, bytearray, bool, int, float, Decimal, list, tuple, set, frozenset)
_LAST_PLACE = Decimal(1).scaleb(-DECIMAL_PLACES_MAX)
_ROUNDING = Context(prec=DECIMAL_PLACES_MAX + INTEGER_DIGITS_MAX, rounding=ROUND_HALF_EVEN)


class Part:
    """An object in an answer, or nothing in its place; `path` names it in refusals.

    Every method takes the spellings that a field may have, of which the first that is there counts.
    """

    __slots__ = ("_path", "_value")

    def __init__(self, value: object, path: str = "") -> None:
        if isinstance(value, _SCALARS) or callable(value):
            raise ContractError("WRONG_TYPE", f"{path or 'the answer'}: must be an object")
        self._value = value
        self._path = path

    @property
    def present(self) -> bool:
        """Whether there is an object at all."""
        return self._value is not None

    def path(self, name: str) -> str:
        """The full name of a field."""
        return f"{self._path}.{name}" if self._path else name

    def made(self, value: Mapping[str, object]) -> Part:
        """Another form of this object, which refusals name as this one."""
        return Part(value, self._path)

    def has(self, *names: str) -> bool:
        """Whether one of the fields is there and not null."""
        return self._find(names)[1] is not None

    def raw(self, *names: str) -> object:
        """What stands in a field, unread; None where it is missing."""
        return self._find(names)[1]

    def part(self, *names: str) -> Part:
        """The object in a field."""
        name, value = self._find(names)
        return Part(value, self.path(name))

    def parts(self, *names: str) -> list[Part]:
        """The objects in an array; a missing one has none."""
        name, value = self._find(names)
        if value is None:
            return []
        if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence):
            raise ContractError("WRONG_TYPE", f"{self.path(name)}: must be an array")
        return [Part(each, f"{self.path(name)}.{index}") for index, each in enumerate(value)]

    def texts(self, *names: str) -> list[str]:
        """The texts in an array; a missing one has none."""
        name, value = self._find(names)
        if value is None:
            return []
        if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence):
            raise ContractError("WRONG_TYPE", f"{self.path(name)}: must be an array")
        return [_text(each, self.path(name)) for each in value]

    def counts(self, *names: str) -> dict[str, int]:
        """The counts in an object of free names."""
        name, value = self._find(names)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise ContractError("WRONG_TYPE", f"{self.path(name)}: must be an object")
        return {_text(key, self.path(name)): _count(each, self.path(name)) for key, each in value.items()}

    def count(self, *names: str) -> int:
        """A count, 0 where it is missing."""
        return self.given(*names) or 0

    def given(self, *names: str) -> int | None:
        """A count, None where it is missing."""
        name, value = self._find(names)
        return None if value is None else _count(value, self.path(name))

    def whole(self, *names: str) -> int:
        """A count for which the provider's schema says `number`, so that its SDK makes 5.0 of 5; 0 where missing."""
        name, value = self._find(names)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return 0 if value is None else _count(value, self.path(name))

    def number(self, *names: str) -> Decimal | None:
        """An amount or a duration, to 24 decimals; a binary fraction by the digits that JSON would have for it."""
        name, value = self._find(names)
        return None if value is None else _number(value, self.path(name))

    def flag(self, *names: str) -> bool:
        """Whether a field is true; false where it is missing."""
        name, value = self._find(names)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise ContractError("WRONG_TYPE", f"{self.path(name)}: must be true or false")

    def text(self, *names: str) -> str | None:
        """A text, None where it is missing or empty."""
        name, value = self._find(names)
        return None if value is None else _text(value, self.path(name)) or None

    def _find(self, names: Sequence[str]) -> tuple[str, object]:
        for name in names:
            value = self._value.get(name) if isinstance(self._value, Mapping) else getattr(self._value, name, None)
            if value is not None and type(value).__name__ != _SENTINEL:
                return name, value
        return names[0], None


def latest(answer: object, *names: str) -> Part:
    """The answer; of a stream (a list or tuple of its chunks) the last chunk with one of the fields, since running
    totals are not added up. An empty part where no chunk has it."""
    if not isinstance(answer, (list, tuple)):
        return Part(answer)
    for chunk in map(Part, reversed(answer)):
        if chunk.has(*names):
            return chunk
    return Part(None)


def inner(answer: object, name: str, wrapper: str) -> Part:
    """As `latest`, of events that may wrap what has the field."""
    part = latest(answer, name, wrapper)
    return part.part(wrapper) if part.has(wrapper) and not part.has(name) else part


def rest(whole: int, parts: int, path: str) -> int:
    """What is left of a count without what it contains; TOTAL_MISMATCH where that is more than the count."""
    if parts > whole:
        raise ContractError("TOTAL_MISMATCH", f"{path}: what it contains is more than it")
    return whole - parts


def declared(total: int | None, counted: int, path: str) -> int | None:
    """The provider's total, kept beside ours. A lower one leaves kinds out, which some do; one above everything that
    was counted is TOTAL_MISMATCH, because what nothing names would be given away."""
    if total is not None and total > counted:
        raise ContractError("TOTAL_MISMATCH", f"{path}: more than everything it is made of")
    return total


def _count(value: object, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ContractError("WRONG_TYPE", f"{path}: must be a whole number")
    if value < 0:
        raise ContractError("NEGATIVE", f"{path}: must be at least 0")
    if value > INTEGER_MAX:
        raise ContractError("TOO_LARGE", f"{path}: must be at most {INTEGER_MAX}")
    return int(value)


def _number(value: object, path: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise ContractError("WRONG_TYPE", f"{path}: must be a number")
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        raise ContractError("NOT_FINITE", f"{path}: must be a finite number")
    if number < 0:
        raise ContractError("NEGATIVE", f"{path}: must be at least 0")
    if number.adjusted() >= INTEGER_DIGITS_MAX:
        raise ContractError("TOO_LARGE", f"{path}: must be less than 10^{INTEGER_DIGITS_MAX}")
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -DECIMAL_PLACES_MAX:
        return number.quantize(_LAST_PLACE, context=_ROUNDING)
    return number


def _text(value: object, path: str) -> str:
    if isinstance(value, Enum):
        value = value.value
    if not isinstance(value, str):
        raise ContractError("WRONG_TYPE", f"{path}: must be text")
    return value
