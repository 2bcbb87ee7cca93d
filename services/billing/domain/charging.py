"""From a usage event to its exact price: the provider's cost or the price book, the rate, the markup. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.domain.ledger import BillingModel
from services.billing.domain.money import converted, with_markup
from services.billing.domain.prices import Metered, PriceBook, Priced, RateTable, Unpriced

__all__ = ["Estimate", "Parked", "Priced", "RatedUsage", "Tariff", "Terms", "derivation", "period_day", "rate_usage"]

_NO_QUANTITIES: Mapping[str, Decimal] = {}


@dataclass(frozen=True, slots=True)
class Tariff:
    """Prices and rates as of one revision; a change of either makes a new one."""

    revision: int
    book: PriceBook
    rates: RateTable


@dataclass(frozen=True, slots=True)
class Terms:
    """What a mandate's charges depend on; `version` tells when one of them has changed."""

    mandate_no: int
    mandate_id: str
    billing_model: BillingModel
    markup_percent: Decimal
    time_zone: str
    version: int


class RatedUsage(NamedTuple):
    """The exact price in CHF and how it came about. `exact` is zero only for usage that was free."""

    exact: Decimal
    cost: Decimal
    currency: str
    rate: Decimal
    markup_percent: Decimal
    price: Priced | None


class Parked(NamedTuple):
    """Usage that cannot be priced yet: kept whole, priced when what is missing is added."""

    reason: str
    detail: str
    currency: str | None


class Estimate(NamedTuple):
    """The part of a usage event that decides its price."""

    provider: str | None
    model: str | None
    cost: tuple[Decimal, str] | None
    tokens: Mapping[str, int]
    quantities: Mapping[str, Decimal]
    service_tier: str | None
    conditions: Mapping[str, str] | None

    @classmethod
    def of(cls, data: UsageRecorded, tokens: Mapping[str, int]) -> "Estimate":
        """The priced part of an event, with the token kinds that occurred."""
        return cls(
            data.provider,
            data.model,
            (data.cost.amount, data.cost.currency) if data.cost is not None else None,
            tokens,
            data.quantities if data.quantities is not None else _NO_QUANTITIES,
            data.service_tier,
            data.conditions,
        )


def rate_usage(usage: Estimate, at: datetime, tariff: Tariff, markup_percent: Decimal) -> RatedUsage | Parked:
    """The exact price by what was valid at the event's own time; what is missing is named, never guessed."""
    price: Priced | None = None
    if usage.cost is not None:
        cost, currency = usage.cost
    else:
        found = _price(usage, at, tariff)
        if isinstance(found, Unpriced):
            return Parked("NO_PRICE", found.reason, None)
        price, cost, currency = found, found.cost, found.currency
    rate = tariff.rates.at(currency, at)
    if rate is None:
        return Parked("NO_RATE", f"no rate of {currency} at that time", currency)
    exact = with_markup(converted(cost, rate.rate), markup_percent)
    return RatedUsage(exact, cost, currency, rate.rate, markup_percent, price)


def _price(usage: Estimate, at: datetime, tariff: Tariff) -> Priced | Unpriced:
    if usage.provider is None or usage.model is None:
        return Unpriced("storage has no price here")
    metered = Metered(
        usage.provider,
        usage.model,
        usage.tokens,
        usage.quantities,
        usage.service_tier or "standard",
        usage.conditions or {},
    )
    return tariff.book.price(metered, at)


def derivation(
    data: UsageRecorded, rated: RatedUsage, carry_before: Decimal, carry_after: Decimal, tokens: Mapping[str, int]
) -> dict[str, object]:
    """Everything that explains an amount; decimals are strings, so that no reader rounds them."""
    parts: dict[str, object] = {
        "cost": str(rated.cost),
        "currency": rated.currency,
        "rate": str(rated.rate),
        "markup": str(rated.markup_percent),
        "exact": str(rated.exact),
        "carry_before": str(carry_before),
        "carry_after": str(carry_after),
    }
    if rated.price is not None:
        parts["price"] = rated.price.version_id
        parts["lines"] = [(name, str(count), str(unit), str(factor)) for name, count, unit, factor in rated.price.lines]
    if tokens:
        parts["tokens"] = tokens
        if data.tokens is not None and data.tokens.provider_total is not None:
            parts["provider_total"] = data.tokens.provider_total
    if data.quantities is not None:
        parts["quantities"] = {name: str(quantity) for name, quantity in data.quantities.items()}
    if data.hold_id is not None:
        parts["hold_id"] = str(data.hold_id)
    for name in ("service_tier", "conditions", "response_id", "metadata"):
        value = getattr(data, name)
        if value is not None:
            parts[name] = value
    return parts


# The day a zone is in, by name: its first moment, the next day's first moment (both UTC), and the date.
_days: dict[str, tuple[datetime, datetime, date]] = {}


def period_day(at: datetime, zone: str) -> date:
    """The day of a time in a zone, [start, next start). The last day asked for is remembered for each zone, because
    events come in the order of time."""
    known = _days.get(zone)
    if known is not None and known[0] <= at < known[1]:
        return known[2]
    place = ZoneInfo(zone)
    day = at.astimezone(place).date()
    _days[zone] = _first_moment(day, place), _first_moment(day + timedelta(days=1), place), day
    return day


def _first_moment(day: date, place: ZoneInfo) -> datetime:
    return datetime.combine(day, time.min, place).astimezone(UTC)
