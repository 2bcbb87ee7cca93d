"""Exchange rates: the CHF for one unit of a currency, each valid from a time on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from services.billing.pricing.bounds import EARLIEST, LATEST, OUT_OF_TIME, in_time, rate_fault
from services.billing.pricing.version import PriceError

__all__ = ["CHF", "Rate", "RateTable", "checked_rate"]


class Rate(NamedTuple):
    """The CHF for one unit of the currency, from a time on; `id` is the number of its row."""

    currency: str
    valid_from: datetime
    rate: Decimal
    id: str = ""


CHF = Rate("CHF", EARLIEST, Decimal(1))


def checked_rate(rate: Rate) -> Rate:
    """The rate itself; PriceError when it cannot be used to convert."""
    if rate.currency == CHF.currency:
        raise PriceError("CHF is always 1 CHF and has no rate")
    fault = rate_fault(rate.rate)
    if fault is not None:
        raise PriceError(f"rate: {fault}")
    if not in_time(rate.valid_from):
        raise PriceError(f"valid_from: {OUT_OF_TIME}")
    return rate


class RateTable:
    """All rates, given in the order in which they were recorded; of the same time the last recorded holds."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        self._by_currency: dict[str, tuple[list[datetime], list[Rate]]] = {}
        for rate in sorted(map(checked_rate, rates), key=lambda each: each.valid_from):
            starts, values = self._by_currency.setdefault(rate.currency, ([], []))
            starts.append(rate.valid_from)
            values.append(rate)

    def at(self, currency: str, time: datetime) -> Rate | None:
        """The rate valid at a time; None when there is none, which parks an event and is never guessed."""
        held = self.held(currency, time)
        return None if held is None else held[0]

    def held(self, currency: str, time: datetime) -> tuple[Rate, datetime, datetime] | None:
        """The rate valid at a time, and the times [from, until) in which it is."""
        if currency == CHF.currency:
            return CHF, EARLIEST, LATEST
        found = self._by_currency.get(currency)
        if found is None:
            return None
        starts, values = found
        index = bisect_right(starts, time)
        if not index:
            return None
        return values[index - 1], starts[index - 1], starts[index] if index < len(starts) else LATEST
