"""Exact money: one decimal context that never rounds, micro-CHF, markup, and the one rounding of a charge.

Ledger amounts are whole micro-CHF (a millionth of a franc) as `int`; everything before the ledger is an exact
`Decimal`. Nothing here uses the thread's own decimal context, so no caller can change how money is computed.
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
from typing import NamedTuple

__all__ = [
    "EXACT",
    "MICRO",
    "MICRO_PLACES",
    "Markup",
    "converted",
    "from_micro",
    "money_json",
    "plain",
    "post",
    "to_micro",
    "with_markup",
]

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


def post(exact: Decimal, remainder: Decimal) -> tuple[int, Decimal]:
    """Rounds an exact price (CHF) plus the account's remainder once, half-even: micro-CHF to post, and a new remainder.

    The new remainder (CHF) is exactly what the rounding left over, at most half a micro-CHF either way, so the posted
    amounts of an account and its last remainder add up to the exact prices to the last digit.
    """
    total = _add(exact, remainder)
    rounded = _quantize(total, MICRO)
    return int(rounded.scaleb(MICRO_PLACES, EXACT)), _subtract(total, rounded)
