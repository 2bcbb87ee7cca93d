"""From a usage event to its exact price: the provider's cost or the price book, the rate, the markup. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

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
    "first_moment",
    "no_rate",
    "period_day",
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


class RatedUsage(NamedTuple):
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
    """What waits for a rate, and which."""
    return Parked("NO_RATE", f"there is no rate of {currency} at {utc_text(at)}", currency)


def derivation(
    data: UsageRecorded, rated: RatedUsage, carry_before: Decimal, carry_after: Decimal, tokens: Mapping[str, int]
) -> dict[str, object]:
    """Everything that explains an amount; decimals are strings without exponent, so that every reader reads them."""
    price = rated.price
    parts: dict[str, object] = {
        "cost": plain(rated.cost),
        "currency": rated.currency,
        "rate": plain(rated.rate),
        "markup": rated.markup.text,
        "exact": plain(rated.exact),
        "carry_before": plain(carry_before),
        "carry_after": plain(carry_after),
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


# The day a zone is in, by name: its first moment, the next day's first moment (both UTC), and the date.
_days: dict[str, tuple[datetime, datetime, date]] = {}
# The time that can be said at all.
_BEGIN, _END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def period_day(at: datetime, zone: str) -> date:
    """The day of a time in a zone, [start, next start). The last day asked for is remembered for each zone, because
    events come in the order of time."""
    known = _days.get(zone)
    if known is not None and known[0] <= at < known[1]:
        return known[2]
    place = ZoneInfo(zone)
    try:
        day = at.astimezone(place).date()
    except OverflowError:
        # There the wall shows a year before 1 or after 9999, which no date can say: it stays at the border.
        return at.astimezone(UTC).date()
    _days[zone] = first_moment(day, zone), _end(day, place), day
    return day


def first_moment(day: date, zone: str) -> datetime:
    """The moment at which a day begins in a zone, in UTC."""
    try:
        return datetime.combine(day, time.min, ZoneInfo(zone)).astimezone(UTC)
    except OverflowError:
        return _BEGIN


def _end(day: date, place: ZoneInfo) -> datetime:
    # There is no day after the very last one; what is not remembered is worked out anew each time.
    try:
        return datetime.combine(day + timedelta(days=1), time.min, place).astimezone(UTC)
    except OverflowError:
        return _END
