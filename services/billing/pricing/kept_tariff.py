"""The price versions and rates by which charges were priced, out of the stored rows of both. Pure."""

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from services.billing.pricing import LATEST, PriceError, Rate, checked_rate, version_from_text
from services.billing.pricing.derivation import KeptRate, KeptTariff, KeptVersion
from services.billing.pricing.sheet import PricedVersion

__all__ = ["StoredPrice", "StoredRate", "kept_tariff"]


class StoredPrice(NamedTuple):
    """A row of the prices; `usable` is whether no migration has set it aside."""

    id: str
    version: str
    usable: bool


class StoredRate(NamedTuple):
    """A row of the rates; the time is None where it lies outside the years of the platform."""

    id: str
    currency: str
    valid_from: datetime | None
    rate: str
    usable: bool


def kept_tariff(prices: Iterable[StoredPrice], rates: Iterable[StoredRate]) -> KeptTariff:
    """Of these rows, given in the order in which they were recorded, those that can be read.

    Each was in force from its time until that of the next one known when it was recorded; of equal times the last
    recorded holds. What is recorded later only shortens that for charges that come after it. So all rows of a model or
    of a currency have to be given, or none of them.
    """
    versions: dict[str, KeptVersion] = {}
    known = _Known()
    for number, text, usable in prices:
        try:
            version = version_from_text(text, number)
            priced = PricedVersion(version)
        except (PriceError, ValueError):
            continue
        until = known.until((version.provider, version.model), version.valid_from, usable=usable)
        versions[number] = KeptVersion(priced, until)
    readable: dict[str, KeptRate] = {}
    for number, currency, valid_from, text, usable in rates:
        if valid_from is None:
            continue
        try:
            rate = checked_rate(Rate(currency, valid_from, Decimal(text), number))
        except (PriceError, ArithmeticError):
            continue
        readable[number] = KeptRate(rate, known.until((currency,), valid_from, usable=usable))
    return KeptTariff(versions, readable)


class _Known:
    """The times from which versions or rates hold, as they were recorded one after the other."""

    def __init__(self) -> None:
        self._starts: dict[tuple[str, ...], list[datetime]] = {}

    def until(self, what: tuple[str, ...], valid_from: datetime, *, usable: bool) -> datetime:
        """The first later time known so far. What was set aside since may not have been in force when the next ones
        were recorded, so it ends none of them."""
        starts = self._starts.setdefault(what, [])
        found = bisect_right(starts, valid_from)
        until = starts[found] if found < len(starts) else LATEST
        if usable:
            starts.insert(found, valid_from)
        return until
