"""Exact money: one decimal context that never rounds, micro-CHF, markup, and the one rounding of a charge.

Ledger amounts are whole micro-CHF (a millionth of a franc) as `int`; everything before the ledger is exact: a
`Decimal` in CHF or, on the way of every charge, an `Exact`. Nothing here uses the thread's own decimal context, so no
caller can change how money is computed.
"""

from __future__ import annotations

from decimal import (
    ROUND_HALF_EVEN,
    Clamped,
    Context,
    Decimal,
    DivisionByZero,
    FloatOperation,
    Inexact,
    InvalidOperation,
    Overflow,
    Rounded,
    Underflow,
)
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

__all__ = [
    "EXACT",
    "MICRO",
    "MICRO_PLACES",
    "SCALE_PLACES",
    "Exact",
    "Markup",
    "converted",
    "exact",
    "exact_difference",
    "exact_of_micro",
    "exact_sum",
    "from_micro",
    "in_chf",
    "money_json",
    "plain",
    "post",
    "remainder_text",
    "to_micro",
    "with_markup",
]

# An exact price or rounding remainder: a whole number of 10^-24 CHF, or CHF as a `Decimal` where that has more places.
Exact: TypeAlias = int | Decimal
SCALE_PLACES: Final = 24

# Counts have 16 digits, prices, quantities and rates at most 38, factors 10 each: every product and sum of them fits
# many times over. What would not fit raises instead of being rounded.
EXACT = Context(
    prec=400,
    rounding=ROUND_HALF_EVEN,
    Emin=-999_999,
    Emax=999_999,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[Clamped, DivisionByZero, FloatOperation, Inexact, InvalidOperation, Overflow, Rounded, Underflow],
)

MICRO_PLACES = 6
MICRO = Decimal("0.000001")
_SCALE = 10**SCALE_PLACES
_MICRO_SCALED: int = 10 ** (SCALE_PLACES - MICRO_PLACES)
_HALF_MICRO = _MICRO_SCALED // 2

_add = EXACT.add
_subtract = EXACT.subtract
_multiply = EXACT.multiply

# The only context that rounds, and only for the one rounding of a charge; everything else in it still raises.
_ROUNDING = EXACT.copy()
_ROUNDING.traps[Inexact] = _ROUNDING.traps[Rounded] = False
_quantize = _ROUNDING.quantize


class Markup(NamedTuple):
    """A percentage on top of a cost: as a number, as text, and as the factor by which it multiplies."""

    percent: Decimal
    factor: Decimal
    text: str

    @classmethod
    def of(cls, percent: Decimal) -> Markup:
        """The markup of that percentage; cached, because mandates share a few."""
        return _markup(str(percent))


# By the text, because 50 and 50.0 are equal numbers that are written differently.
@lru_cache(maxsize=1024)
def _markup(text: str) -> Markup:
    percent = Decimal(text)
    return Markup(percent, _add(100, percent).scaleb(-2, EXACT), plain(percent))


def plain(number: Decimal | int) -> str:
    """The number without an exponent, as everything is written that is kept for ever or read by others."""
    text = str(number)
    return text if "E" not in text else format(number, "f")


def to_micro(amount: Decimal) -> int:
    """Micro-CHF of an amount in CHF; ValueError when it has more than six decimals, never a rounding."""
    if not amount.is_finite():
        raise ValueError(f"{amount} is not an amount")
    scaled = amount.scaleb(MICRO_PLACES, EXACT)
    micros = int(scaled)
    if micros != scaled:
        raise ValueError(f"{amount} has more than six decimals")
    return micros


def from_micro(micros: int) -> Decimal:
    """The amount in CHF of a number of micro-CHF, always with six decimals."""
    return Decimal(micros).scaleb(-MICRO_PLACES, EXACT)


def money_json(micros: int) -> dict[str, str]:
    """A number of micro-CHF as newer paths answer money."""
    return {"amount": format(from_micro(micros), "f"), "currency": "CHF"}


def converted(amount: Decimal, rate: Decimal) -> Decimal:
    """The exact CHF of a foreign amount, by the CHF for one unit of its currency."""
    return _multiply(amount, rate)


def with_markup(cost_chf: Decimal, markup: Markup) -> Decimal:
    """The exact price of a cost with its markup on top."""
    return _multiply(cost_chf, markup.factor)


def exact(chf: Decimal) -> Exact:
    """The amount as a whole number of 10^-24 CHF where it is one."""
    scaled = chf.scaleb(SCALE_PLACES, EXACT)
    whole = int(scaled)
    return whole if whole == scaled else chf


def in_chf(amount: Exact) -> Decimal:
    """The amount in CHF."""
    return Decimal(amount).scaleb(-SCALE_PLACES, EXACT) if isinstance(amount, int) else amount


def exact_of_micro(micros: int) -> Exact:
    """The amount of a number of micro-CHF."""
    return micros * _MICRO_SCALED


def exact_sum(first: Exact, second: Exact) -> Exact:
    """Both amounts together."""
    if isinstance(first, int) and isinstance(second, int):
        return first + second
    return exact(_add(in_chf(first), in_chf(second)))


def exact_difference(first: Exact, second: Exact) -> Exact:
    """How much more the first amount is than the second."""
    if isinstance(first, int) and isinstance(second, int):
        return first - second
    return exact(_subtract(in_chf(first), in_chf(second)))


def post(price: Exact, remainder: Exact) -> tuple[int, Exact]:
    """Rounds an exact price plus the account's remainder once, half-even: micro-CHF to post, and a new remainder.

    The new remainder is exactly what the rounding left over, at most half a micro-CHF either way, so the posted amounts
    of an account and its last remainder add up to the exact prices to the last digit.
    """
    if isinstance(price, int) and isinstance(remainder, int):
        micros, left = divmod(price + remainder, _MICRO_SCALED)
        if left > _HALF_MICRO or (left == _HALF_MICRO and micros & 1):
            return micros + 1, left - _MICRO_SCALED
        return micros, left
    total = _add(in_chf(price), in_chf(remainder))
    rounded = _quantize(total, MICRO)
    return int(rounded.scaleb(MICRO_PLACES, EXACT)), exact(_subtract(total, rounded))


def remainder_text(remainder: Exact) -> str:
    """A remainder in CHF, without an exponent."""
    if not isinstance(remainder, int):
        return plain(remainder)
    if not -_SCALE < remainder < _SCALE:
        return plain(in_chf(remainder))
    if not remainder:
        return "0"
    # A format with a width takes nearly twice as long, and this is done for each charge.
    return (("0." if remainder > 0 else "-0.") + str(abs(remainder)).zfill(SCALE_PLACES)).rstrip("0")
