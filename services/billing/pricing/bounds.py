"""The bounds of times and rates, wherever they come from: a body, a file, a command or a stored row."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from rappen_contracts.types import TIME_END, TIME_START

__all__ = [
    "EARLIEST",
    "LATEST",
    "OUT_OF_TIME",
    "in_time",
    "rate_fault",
    "utc_text",
]

# The same as for events: [earliest, latest).
EARLIEST: Final = TIME_START
LATEST: Final = TIME_END
OUT_OF_TIME: Final = "a time from 2000 to 2199 is expected"

# A unit of the dearest currency is worth a few francs, one of the cheapest some millionths of a franc.
RATE_INTEGER_DIGITS_MAX: Final = 6
RATE_DECIMALS_MAX: Final = 24


def in_time(time: datetime) -> bool:
    """Whether a time is within the range of prices, rates and usage."""
    return EARLIEST <= time < LATEST


def rate_fault(rate: Decimal) -> str | None:
    """What is wrong with the CHF for one unit of a currency; None when nothing is."""
    exponent = rate.as_tuple().exponent
    if not isinstance(exponent, int) or rate <= 0:
        return "a rate must be more than zero"
    if rate.adjusted() >= RATE_INTEGER_DIGITS_MAX:
        return f"a rate has at most {RATE_INTEGER_DIGITS_MAX} digits before the point"
    if exponent < -RATE_DECIMALS_MAX:
        return f"a rate has at most {RATE_DECIMALS_MAX} decimals"
    return None


def utc_text(time: datetime) -> str:
    """A time as people and other languages read it."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
