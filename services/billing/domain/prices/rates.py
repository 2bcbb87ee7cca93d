"""Exchange rates: the CHF for one unit of a currency, each valid from a time on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

__all__ = ["Rate", "RateTable"]


class Rate(NamedTuple):
    """So many CHF for one unit of the currency, from a time on; `id` is what the rate's store calls it."""

    currency: str
    valid_from: datetime
    rate: Decimal
    id: str = ""


_CHF = Rate("CHF", datetime.min.replace(tzinfo=UTC), Decimal(1))


class RateTable:
    """All rates, given in the order in which they were recorded; of the same time the last recorded holds."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        self._by_currency: dict[str, tuple[list[datetime], list[Rate]]] = {}
        for rate in sorted(rates, key=lambda each: each.valid_from):
            if not (rate.rate.is_finite() and rate.rate > 0):
                raise ValueError(f"the rate of {rate.currency} must be more than zero")
            if rate.currency == _CHF.currency:
                raise ValueError("CHF is always 1 CHF and has no rate")
            starts, values = self._by_currency.setdefault(rate.currency, ([], []))
            starts.append(rate.valid_from)
            values.append(rate)

    def at(self, currency: str, time: datetime) -> Rate | None:
        """The rate valid at a time; None when there is none, which parks an event and is never guessed."""
        if currency == _CHF.currency:
            return _CHF
        found = self._by_currency.get(currency)
        if found is None:
            return None
        starts, values = found
        index = bisect_right(starts, time)
        return values[index - 1] if index else None
