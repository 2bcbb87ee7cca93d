"""The fast form of pricing: what tokens and other units cost in CHF, rate and markup included, as whole numbers.

`rate_usage` is the published form, and this one is made from the same price book and rates. Where a quote has an
answer it is the exact price that `rate_usage` gives, to the last digit (tests/property/test_fast_charging.py), because
unit price, factor, rate and markup are multiplied exactly before the counts are, and the product is only used where it
is a whole number of 10^-24 CHF. It has none where conditions that the version names are reported, nor where something
has no price or the price is zero. Those are rated in the published way.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import partial
from operator import itemgetter, mul
from typing import Final, NamedTuple, TypeVar

from rappen_contracts.types import TIME_START, since_epoch
from rappen_contracts.usage.fast import Cost, UsageData
from rappen_contracts.usage.v1 import TOKEN_KINDS
from services.billing.ledger.calendars import MINUTE
from services.billing.money import EXACT, Markup, exact
from services.billing.pricing.clock import Clock
from services.billing.pricing.rates import Rate
from services.billing.pricing.rating import PriceSource, Tariff
from services.billing.pricing.sheet import PricedVersion
from services.billing.pricing.version import PROMPT_KINDS, STANDARD

__all__ = ["Quotes", "output_counts"]

# Of the counts, those of the kinds that the provider was not sent, but sent itself.
output_counts: Final = itemgetter(*[at for at, kind in enumerate(TOKEN_KINDS) if kind not in PROMPT_KINDS])
# More than any exact price; the price of what has none, so that a sum with it is no answer.
_UNPRICED: Final = 10**90
# Quotes kept; a model has one for each tier and markup, and for each period in which its price and rate stand; where
# the time of day decides, prices of each segment of the clock count as one more. Few periods are in use at a time, and
# their quotes are looked through one by one.
_QUOTES_MAX: Final = 10_000
_PERIODS_MAX: Final = 32

_K = TypeVar("_K")
_Q = TypeVar("_Q")


class _Prices(NamedTuple):
    """10^-24 CHF for one token of each kind, in their order, and for one unit of each quantity."""

    tokens: tuple[int, ...]
    units: dict[str, int]


class _ModelQuote(NamedTuple):
    """Prices of a model in a tier under one rate and markup, for times from `begin` to before `end` (microseconds since
    2000), by bands of the prompt's length; where the time of day decides, those of each segment of the clock."""

    begin: int
    end: int
    borders: Sequence[int]
    bands: list[_Prices]
    hours: "_Hours | None"
    names_conditions: bool
    source: PriceSource


@dataclass(slots=True)
class _Hours:
    """Prices of a version that has windows, by the segments of its clock, each made when it is first asked for."""

    clock: Clock
    bands_in: Callable[[tuple[int, ...]], list[_Prices]]
    bands: dict[tuple[int, ...], list[_Prices]] = field(default_factory=dict)


class _CostQuote(NamedTuple):
    """10^-24 CHF for one unit of a currency under one markup, and for which times."""

    begin: int
    end: int
    factor: int
    source: PriceSource


class Quotes:
    """The quotes of one tariff, made when they are first asked for."""

    def __init__(self, tariff: Tariff) -> None:
        self.tariff = tariff
        self._by_model: dict[tuple[str | None, ...], list[_ModelQuote]] = {}
        self._by_currency: dict[tuple[str, str], list[_CostQuote]] = {}
        self._kept = 0

    def price(self, data: UsageData, counts: Sequence[int], at: int, markup: Markup) -> tuple[int, PriceSource] | None:
        """The exact price (10^-24 CHF, more than zero) of usage at a time, and what it is from; None where it has to be
        rated in the published way."""
        if data.cost is not None:
            return self._price_of_cost(data.cost, at, markup)
        for quote in self._by_model.get((data.provider, data.model, data.service_tier, markup.text), ()):
            if quote.begin <= at < quote.end:
                break
        else:
            made = self._quote_model(data, at, markup)
            if made is None:
                return None
            quote = made
        if quote.names_conditions and data.conditions:
            return None
        bands = quote.bands if quote.hours is None else self._bands_at(quote.hours, at)
        prices = bands[0]
        if quote.borders and counts:
            prices = bands[bisect_left(quote.borders, sum(counts) - sum(output_counts(counts)))]
        price = sum(map(mul, counts, prices.tokens))
        if data.quantities:
            price += _price_of_units(data.quantities, prices.units)
        return (price, quote.source) if 0 < price < _UNPRICED else None

    def _price_of_cost(self, cost: Cost, at: int, markup: Markup) -> tuple[int, PriceSource] | None:
        for quote in self._by_currency.get((cost.currency, markup.text), ()):
            if quote.begin <= at < quote.end:
                break
        else:
            made = self._quote_cost(cost.currency, at, markup)
            if made is None:
                return None
            quote = made
        price = _times(cost.amount, quote.factor)
        return (price, quote.source) if price else None

    def _quote_model(self, data: UsageData, at: int, markup: Markup) -> _ModelQuote | None:
        if data.provider is None or data.model is None:
            return None
        time = TIME_START + timedelta(microseconds=at)
        held = self.tariff.book.held(data.provider, data.model, time)
        if held is None:
            return None
        version, begin, end = held
        rate = self.tariff.rates.held(version.version.currency, time)
        if rate is None:
            return None
        bands_in = partial(_bands, version, data.service_tier or STANDARD, _factor(rate[0], markup))
        quote = _ModelQuote(
            since_epoch(max(begin, rate[1])),
            since_epoch(min(end, rate[2])),
            version.borders,
            bands_in(()) if version.clock is None else [],
            None if version.clock is None else _Hours(version.clock, bands_in),
            version.names_conditions,
            PriceSource(markup.text, rate[0].id or None, version.version.id),
        )
        self._keep(self._by_model, (data.provider, data.model, data.service_tier, markup.text), quote)
        return quote

    def _quote_cost(self, currency: str, at: int, markup: Markup) -> _CostQuote | None:
        held = self.tariff.rates.held(currency, TIME_START + timedelta(microseconds=at))
        if held is None:
            return None
        rate, begin, end = held
        factor = exact(_factor(rate, markup))
        if not isinstance(factor, int):
            return None
        source = PriceSource(markup.text, rate.id or None, None)
        quote = _CostQuote(since_epoch(begin), since_epoch(end), factor, source)
        self._keep(self._by_currency, (currency, markup.text), quote)
        return quote

    def _bands_at(self, hours: _Hours, at: int) -> list[_Prices]:
        """The prices at a time, by bands of the prompt's length."""
        segments = hours.clock.segments_of_minute(at // MINUTE)
        found = hours.bands.get(segments)
        if found is None:
            self._count_one_more()
            found = hours.bands[segments] = hours.bands_in(segments)
        return found

    def _keep(self, kept: dict[_K, list[_Q]], key: _K, quote: _Q) -> None:
        self._count_one_more()
        quotes = kept.setdefault(key, [])
        if len(quotes) >= _PERIODS_MAX:
            # It stays counted, and so do its hours: all are forgotten the sooner.
            del quotes[0]
        quotes.append(quote)

    def _count_one_more(self) -> None:
        if self._kept >= _QUOTES_MAX:
            self._by_model.clear()
            self._by_currency.clear()
            self._kept = 0
        self._kept += 1


def _factor(rate: Rate, markup: Markup) -> Decimal:
    return EXACT.multiply(rate.rate, markup.factor)


def _bands(version: PricedVersion, service_tier: str, factor: Decimal, segments: tuple[int, ...]) -> list[_Prices]:
    return [
        _scaled({name: EXACT.multiply(price, factor) for name, price in band.items()})
        for band in version.unit_prices(service_tier, segments)
    ]


def _scaled(prices: Mapping[str, Decimal]) -> _Prices:
    """The prices that are whole numbers of 10^-24 CHF."""
    whole = {name: scaled for name, price in prices.items() if isinstance(scaled := exact(price), int)}
    units = {name: price for name, price in whole.items() if name not in TOKEN_KINDS}
    return _Prices(tuple(whole.get(kind, _UNPRICED) for kind in TOKEN_KINDS), units)


def _price_of_units(quantities: Mapping[str, str], prices: Mapping[str, int]) -> int:
    price = 0
    for name, quantity in quantities.items():
        # What did not occur needs no price.
        if quantity != "0":
            unit_price = prices.get(name)
            priced = None if unit_price is None else _times(quantity, unit_price)
            if priced is None:
                return _UNPRICED
            price += priced
    return price


def _times(number: str, price: int) -> int | None:
    """The price of a decimal number of units; None where it is no whole number of 10^-24 CHF."""
    whole, _, places = number.partition(".")
    product, rest = divmod(int(whole + places) * price, 10 ** len(places))
    return None if rest else product
