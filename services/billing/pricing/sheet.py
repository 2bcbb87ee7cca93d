"""A price version made ready for use: every situation becomes one plain dictionary of unit prices, made once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from services.billing.money import EXACT, plain
from services.billing.pricing.clock import Clock, Window
from services.billing.pricing.usage import NOTHING, Line, Metered, Priced, Unpriced
from services.billing.pricing.version import (
    ANY,
    FALLBACKS,
    PROMPT_KINDS,
    SAME_TIERS,
    STANDARD,
    TOKEN_KINDS,
    UNSERVED,
    Factor,
    PriceList,
    PriceVersion,
)

__all__ = ["PricedVersion", "Selection"]

_ZERO = Decimal(0)
_ONE = Decimal(1)
# Sheets kept of one version. Real ones have a dozen; a version with many conditions must not grow without bound.
_SHEETS_MAX = 1024
# Tiers that no version can name.
_MEANT = {**SAME_TIERS, UNSERVED: UNSERVED}

_fma = EXACT.fma
_multiply = EXACT.multiply


class _UnitPrice(NamedTuple):
    """The listed price of one unit, the factor on it, their product, and the first two as text for derivations; for a
    component that has no price of its own here also what it is priced as."""

    unit_price: Decimal
    factor: Decimal
    charged: Decimal
    texts: tuple[str, str]
    priced_as: str = ""

    @classmethod
    def of(cls, unit_price: Decimal, factor: Decimal, charged: Decimal, priced_as: str = "") -> _UnitPrice:
        """With the texts, made once for all usage at this price."""
        return cls(unit_price, factor, charged, (plain(unit_price), plain(factor)), priced_as)

    def times(self, factor: Decimal) -> _UnitPrice:
        """The price with another factor on it."""
        return self.of(self.unit_price, _multiply(self.factor, factor), _multiply(self.charged, factor), self.priced_as)

    def instead(self, what: str) -> _UnitPrice:
        """The same price for a component without its own, noting what it is priced as."""
        return self._replace(priced_as=f"{what}, {self.priced_as}" if self.priced_as else what)


class _Situation(NamedTuple):
    """All that selects prices: tier, number of length borders passed, segments of the week, condition values."""

    tier: str
    band: int
    segments: tuple[int, ...]
    values: tuple[str | None, ...]


class _Sheet(NamedTuple):
    """All prices of a situation: of kinds of tokens, of units, and of kinds that have no price of their own."""

    tokens: dict[str, _UnitPrice]
    quantities: dict[str, _UnitPrice]
    borrowed: dict[str, _UnitPrice]


class Selection(NamedTuple):
    """What of usage decided which prices hold: its tier; its prompt length, and the band [above, up to] of the version
    that it is in; its value of each condition that the version names, None where it reported none; the windows of the
    version that were open."""

    tier: str
    prompt_tokens: int
    above: int | None
    up_to: int | None
    conditions: Mapping[str, str | None]
    windows: Sequence[Window]


_NONE_BORROWED: Final[Mapping[str, _UnitPrice]] = {}


class PricedVersion:
    """Prices usage by one version."""

    def __init__(self, version: PriceVersion) -> None:
        self.version = version
        parts: tuple[PriceList | Factor, ...] = (*version.lists, *version.factors)
        windows = [window for part in parts for window in part.clock]
        self._clock = Clock(windows) if windows else None
        self._borders = sorted({border for entry in version.lists for border in _borders_of(entry)})
        named: dict[str, set[str]] = {}
        for part in parts:
            for name, value in part.when.items():
                named.setdefault(name, set()).add(value)
        self._conditions = tuple((name, frozenset(values)) for name, values in sorted(named.items()))
        tiers = {tier for entry in version.lists for tier in entry.tiers}
        self._tiers = tiers | {factor.tier for factor in version.factors if factor.tier is not None}
        self._sheets: dict[_Situation, _Sheet] = {}
        # Of most versions the tier alone decides: those need not look at anything else.
        self._by_tier_alone = not (self._borders or self._conditions or self._clock)
        self._tier_sheets: dict[str, _Sheet] = {}

    def price(self, usage: Metered, at: datetime) -> Priced | Unpriced:
        """The exact cost of the usage, or what is missing for it; ValueError for a negative count."""
        sheet = self._tier_sheets.get(usage.service_tier) or self._sheet_for(usage, at)
        cost = _ZERO
        lines: list[Line] = []
        priced_as = NOTHING
        for counts, prices, borrowed in (
            (usage.tokens, sheet.tokens, sheet.borrowed),
            (usage.quantities, sheet.quantities, _NONE_BORROWED),
        ):
            for component, count in counts.items():
                if count > 0:
                    found = prices.get(component)
                    if found is None:
                        found = borrowed.get(component)
                        if found is None:
                            return self._missing(component, usage, self._situation(usage, at))
                        priced_as = {**priced_as, component: found.priced_as}
                    cost = _fma(count, found.charged, cost)
                    lines.append((component, count, *found.texts))
                elif count:
                    raise ValueError(f"the count of {component} is negative")
        version = self.version
        return Priced(cost, version.currency, lines, version.valid_from, version.id, priced_as)

    def selection(self, usage: Metered, at: datetime) -> Selection:
        """What decided which prices of this version hold for usage at a time."""
        situation, clock = self._situation(usage, at), self._clock
        band, borders = situation.band, self._borders
        parts: tuple[PriceList | Factor, ...] = (*self.version.lists, *self.version.factors)
        windows = dict.fromkeys(window for part in parts for window in part.clock)
        return Selection(
            SAME_TIERS.get(usage.service_tier, usage.service_tier),
            _prompt_length(usage),
            borders[band - 1] if band else None,
            borders[band] if band < len(borders) else None,
            {name: usage.conditions.get(name) for name, _ in self._conditions},
            [window for window in windows if clock is not None and clock.is_open(window, situation.segments)],
        )

    @property
    def borders(self) -> Sequence[int]:
        """The prompt lengths, each the last of its band, at which prices change."""
        return self._borders

    @property
    def names_conditions(self) -> bool:
        """Whether reported conditions may change the price."""
        return bool(self._conditions)

    @property
    def clock(self) -> Clock | None:
        """The week by which prices change; None where the time of day does not decide on them."""
        return self._clock

    def unit_prices(self, service_tier: str, segments: tuple[int, ...]) -> list[Mapping[str, Decimal]]:
        """What a token of each kind and a unit of each quantity is charged at in a tier and in segments of the clock,
        for each band of the prompt's length, where no conditions are reported."""
        values = (None,) * len(self._conditions)
        bands = [_Situation(self._tier(service_tier), band, segments, values) for band in range(len(self._borders) + 1)]
        sheets = [self._sheets.get(situation) or self._sheet(situation) for situation in bands]
        return [
            {name: price.charged for name, price in (sheet.borrowed | sheet.tokens | sheet.quantities).items()}
            for sheet in sheets
        ]

    def _sheet_for(self, usage: Metered, at: datetime) -> _Sheet:
        situation = self._situation(usage, at)
        sheet = self._sheets.get(situation) or self._sheet(situation)
        if self._by_tier_alone and len(self._tier_sheets) < _SHEETS_MAX:
            self._tier_sheets[usage.service_tier] = sheet
        return sheet

    def _situation(self, usage: Metered, at: datetime) -> _Situation:
        band = 0
        if self._borders:
            band = bisect_left(self._borders, _prompt_length(usage))
        values: tuple[str | None, ...] = ()
        if self._conditions:
            reported = usage.conditions
            values = tuple(_value(reported.get(name), named) for name, named in self._conditions)
        return _Situation(self._tier(usage.service_tier), band, self._clock.segments(at) if self._clock else (), values)

    def _tier(self, service_tier: str) -> str:
        return service_tier if service_tier in self._tiers else _MEANT.get(service_tier, ANY)

    def _sheet(self, situation: _Situation) -> _Sheet:
        """Merges the lists that apply, of which the last wins, and applies the factors."""
        merged = {} if situation.tier == UNSERVED else self._merged(situation)
        sheet = _Sheet({}, {}, {})
        for component, found in merged.items():
            own = sheet.borrowed if found.priced_as else sheet.tokens
            (own if component in TOKEN_KINDS else sheet.quantities)[component] = found
        if len(self._sheets) < _SHEETS_MAX:
            self._sheets[situation] = sheet
        return sheet

    def _merged(self, situation: _Situation) -> dict[str, _UnitPrice]:
        tier = situation.tier
        listed, hidden = self._listed(situation, tier)
        merged = {component: _UnitPrice.of(price, _ONE, price) for component, price in listed.items()}
        if tier not in (STANDARD, ANY):
            hidden |= self._borrow(situation, merged)
        for factor in self.version.factors:
            if factor.tier is None and self._selected(factor, situation):
                merged = {
                    component: found.times(factor.factor) if factor.covers(component) else found
                    for component, found in merged.items()
                }
        for kind, instead in FALLBACKS.items():
            if kind not in merged and kind not in hidden and instead in merged and not self._told_apart(tier, kind):
                merged[kind] = merged[instead].instead(f"as {instead}")
        return merged

    def _borrow(self, situation: _Situation, merged: dict[str, _UnitPrice]) -> set[str]:
        """Adds standard prices to those of another tier: times the tier's factor if it has one, else as they are, for
        kinds of tokens that the tier prices nowhere. Returns what standard prices under unmet conditions."""
        standard, hidden = self._listed(situation, STANDARD)
        own = self._priced_in(situation.tier)
        factor = next((each for each in self.version.factors if each.tier == situation.tier), None)
        for component, price in standard.items():
            if component in merged:
                continue
            if factor is not None and factor.covers(component):
                merged[component] = _UnitPrice.of(price, _ONE, price).times(factor.factor)
            elif component in TOKEN_KINDS and component not in own:
                merged[component] = _UnitPrice.of(price, _ONE, price, "at the standard price")
        return hidden if factor is not None else hidden - own

    def _priced_in(self, tier: str) -> set[str]:
        """Every component that a tier has a price for, whatever else that depends on."""
        return {name for entry in self.version.lists if _of_tier(entry, tier) for name in entry.prices}

    def _told_apart(self, tier: str, kind: str) -> bool:
        """Whether the tier, or standard for what it does not price, has a price of its own for this kind elsewhere (at
        another length, in other hours) that is not that of the kind it is a part of."""
        tier = tier if kind in self._priced_in(tier) else STANDARD
        return any(
            kind in entry.prices and entry.prices[kind] != entry.prices.get(FALLBACKS[kind])
            for entry in self.version.lists
            if _of_tier(entry, tier)
        )

    def _listed(self, situation: _Situation, tier: str) -> tuple[dict[str, Decimal], set[str]]:
        """The listed prices of a tier, and the components priced here only under conditions that are not met."""
        prices: dict[str, Decimal] = {}
        hidden: set[str] = set()
        for entry in self.version.lists:
            if _of_tier(entry, tier) and self._fits_length(entry, situation.band):
                if self._selected(entry, situation):
                    prices.update(entry.prices)
                elif entry.when:
                    hidden.update(entry.prices)
        return prices, hidden - prices.keys()

    def _fits_length(self, entry: PriceList, band: int) -> bool:
        passed = self._borders[:band]
        return (entry.above is None or entry.above in passed) and (entry.up_to is None or entry.up_to not in passed)

    def _selected(self, part: PriceList | Factor, situation: _Situation) -> bool:
        values = dict(zip((name for name, _ in self._conditions), situation.values, strict=True))
        met = all(values[name] == value for name, value in part.when.items())
        if not met or not part.clock or self._clock is None:
            return met
        clock = self._clock
        return any(clock.is_open(window, situation.segments) for window in part.clock)

    def _missing(self, component: str, usage: Metered, situation: _Situation) -> Unpriced:
        """Says what an operator has to add so that this usage can be priced."""
        asked = f"{usage.provider} {usage.model} has no price for {component}"
        tier = SAME_TIERS.get(usage.service_tier, usage.service_tier)
        asked += f" in tier {tier}" if tier != STANDARD else ""
        if tier == UNSERVED:
            return Unpriced(f"{asked}: that is what was asked for, not what was served")
        if situation.tier not in self._tiers:
            return Unpriced(f"{asked}: the tier has no price")
        names = sorted({name for entry in self.version.lists if component in entry.prices for name in entry.when})
        if names:
            return Unpriced(f"{asked}: it depends on {', '.join(names)}")
        if any(component in entry.prices and entry.by_length for entry in self.version.lists):
            return Unpriced(f"{asked} at this prompt length")
        return Unpriced(asked)


def _prompt_length(usage: Metered) -> int:
    return sum(count for kind, count in usage.tokens.items() if kind in PROMPT_KINDS)


def _borders_of(entry: PriceList) -> list[int]:
    return [border for border in (entry.above, entry.up_to) if border is not None]


def _value(reported: str | None, named: frozenset[str]) -> str | None:
    """The reported value of a condition where the version names it, else `*` for any other, None for none."""
    if reported is None or (reported in named and reported != ANY):
        return reported
    return ANY


def _of_tier(entry: PriceList, tier: str) -> bool:
    return tier in entry.tiers or ANY in entry.tiers
