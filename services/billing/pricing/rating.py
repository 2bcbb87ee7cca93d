"""From a usage event to its exact price, and how that came about: the provider's cost or the price book, the rate, the
markup. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.money import Markup, converted, plain, with_markup
from services.billing.pricing import Metered, PriceBook, Priced, RateTable, Unpriced, utc_text

__all__ = [
    "Billable",
    "Parked",
    "Priced",
    "ProviderCost",
    "RatedUsage",
    "Tariff",
    "billable",
    "derivation",
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


@dataclass(slots=True)
class RatedUsage:
    """The exact price in CHF and how it came about. `exact` is zero only for usage that was free."""

    exact: Decimal
    cost: Decimal
    currency: str
    rate: Decimal
    markup: Markup
    price: Priced | None


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
    exact = with_markup(converted(cost, rate.rate), markup)
    return RatedUsage(exact, cost, currency, rate.rate, markup, price)


def no_rate(currency: str, at: datetime) -> Parked:
    """The reason for parking an amount without a rate: which currency, at which time."""
    return Parked("NO_RATE", f"there is no rate of {currency} at {utc_text(at)}", currency)


def derivation(
    data: UsageRecorded,
    rated: RatedUsage,
    remainder_before: Decimal,
    remainder_after: Decimal,
    tokens: Mapping[str, int],
) -> dict[str, object]:
    """Everything that explains an amount; decimals are strings without exponent, so that every reader reads them."""
    price = rated.price
    parts: dict[str, object] = {
        "cost": plain(rated.cost),
        "currency": rated.currency,
        "rate": plain(rated.rate),
        "markup": rated.markup.text,
        "exact": plain(rated.exact),
        # The names under which remainders have been stored and shown from the first release on.
        "carry_before": plain(remainder_before),
        "carry_after": plain(remainder_after),
    }
    if price is not None:
        _explain_price(parts, price)
    if tokens:
        parts["tokens"] = tokens
        if data.tokens is not None and data.tokens.provider_total is not None:
            parts["provider_total"] = data.tokens.provider_total
    if data.quantities is not None:
        parts["quantities"] = {name: plain(quantity) for name, quantity in data.quantities.items()}
    if data.hold_id is not None:
        parts["hold_id"] = str(data.hold_id)
    if data.service_tier is not None:
        parts["service_tier"] = data.service_tier
    if data.conditions is not None:
        parts["conditions"] = data.conditions
    if data.response_id is not None:
        parts["response_id"] = data.response_id
    if data.metadata is not None:
        parts["metadata"] = data.metadata
    return parts


def _explain_price(parts: dict[str, object], price: Priced) -> None:
    parts["price"] = price.version_id
    parts["lines"] = [(name, plain(count), unit, factor) for name, count, unit, factor in price.lines]
    if price.priced_as:
        parts["priced_as"] = price.priced_as
