"""From a usage event to its exact price, and what that is from: the provider's cost or the price book, the rate, the
markup. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.money import Markup, converted, with_markup
from services.billing.pricing import Metered, PriceBook, Priced, Rate, RateTable, Unpriced, utc_text

__all__ = [
    "Billable",
    "Parked",
    "PriceSource",
    "Priced",
    "ProviderCost",
    "RatedUsage",
    "Tariff",
    "billable",
    "no_rate",
    "rate_usage",
]

_NO_QUANTITIES: Mapping[str, Decimal] = {}
_NO_CONDITIONS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Tariff:
    """Prices and rates as of one revision; a change of either makes a new one."""

    revision: int
    book: PriceBook
    rates: RateTable


class PriceSource(NamedTuple):
    """What a price is from: the markup's percent and the ids of the rate (none for CHF) and of the price version (none
    where the provider's cost was given)."""

    markup: str
    rate: str | None
    price: str | None


@dataclass(slots=True)
class RatedUsage:
    """The exact price in CHF and how it came about. `exact` is zero only for usage that was free."""

    exact: Decimal
    cost: Decimal
    currency: str
    rate: Rate
    markup: Markup
    price: Priced | None

    @property
    def source(self) -> PriceSource:
        """What the price is from."""
        version_id = None if self.price is None else self.price.version_id
        return PriceSource(self.markup.text, self.rate.id or None, version_id)


class Parked(NamedTuple):
    """Usage that cannot be priced yet: kept whole, priced when what is missing is added."""

    reason: str
    detail: str
    currency: str | None


class ProviderCost(NamedTuple):
    """What the provider charged, before markup."""

    amount: Decimal
    currency: str


# What decides a price: the provider's own cost, or else what was metered. None: neither, as storage without a cost.
Billable = ProviderCost | Metered | None


def billable(data: UsageRecorded, tokens: Mapping[str, int]) -> Billable:
    """The part of an event that decides its price; `tokens` are the kinds that occurred."""
    if data.cost is not None:
        return ProviderCost(data.cost.amount, data.cost.currency)
    if data.provider is None or data.model is None:
        return None
    return Metered(
        data.provider,
        data.model,
        tokens,
        data.quantities or _NO_QUANTITIES,
        data.service_tier or "standard",
        data.conditions or _NO_CONDITIONS,
    )


def rate_usage(usage: Billable, at: datetime, tariff: Tariff, markup: Markup) -> RatedUsage | Parked:
    """The exact price by what was valid at the event's own time; what is missing is named, never guessed."""
    price: Priced | None = None
    if isinstance(usage, Metered):
        found = tariff.book.price(usage, at)
        if isinstance(found, Unpriced):
            return Parked("NO_PRICE", found.reason, None)
        price, cost, currency = found, found.cost, found.currency
    elif usage is None:
        return Parked("NO_PRICE", "storage has no price here", None)
    else:
        cost, currency = usage
    rate = tariff.rates.at(currency, at)
    if rate is None:
        return no_rate(currency, at)
    return RatedUsage(with_markup(converted(cost, rate.rate), markup), cost, currency, rate, markup, price)


def no_rate(currency: str, at: datetime) -> Parked:
    """The reason for parking an amount without a rate: which currency, at which time."""
    return Parked("NO_RATE", f"there is no rate of {currency} at {utc_text(at)}", currency)
