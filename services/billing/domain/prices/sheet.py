"""A price version made ready for use: every situation becomes one plain dictionary of unit prices, made once."""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from services.billing.domain.money import EXACT, plain
from services.billing.domain.prices.clock import Week
from services.billing.domain.prices.usage import Line, Metered, Priced, Unpriced
from services.billing.domain.prices.version import (
    ANY,
    FALLBACKS,
    PROMPT_KINDS,
    STANDARD,
    TOKEN_KINDS,
    Factor,
    PriceList,
    PriceVersion,
)

__all__ = ["PricedVersion"]

_ZERO = Decimal(0)
_ONE = Decimal(1)
# Sheets kept of one version. Real ones have a dozen; a version with many conditions must not grow without bound.
_SHEETS_MAX = 1024

_fma = EXACT.fma
_multiply = EXACT.multiply


class _UnitPrice(NamedTuple):
    """The listed price of one unit, the factor on it, their product, and the first two as text for derivations."""

    unit_price: Decimal
    factor: Decimal
    charged: Decimal
    texts: tuple[str, str]

    @classmethod
    def of(cls, unit_price: Decimal, factor: Decimal, charged: Decimal) -> _UnitPrice:
        """With the texts, made once for all usage at this price."""
        return cls(unit_price, factor, charged, (plain(unit_price), plain(factor)))


class _Situation(NamedTuple):
    """All that selects prices: tier, number of length borders passed, segment of the week, condition values."""

    tier: str
    band: int
    segment: int
    values: tuple[str | None, ...]


_Sheet = tuple[dict[str, _UnitPrice], dict[str, _UnitPrice]]


class PricedVersion:
    """Prices usage by one version."""

    def __init__(self, version: PriceVersion) -> None:
        self.version = version
        parts: tuple[PriceList | Factor, ...] = (*version.lists, *version.factors)
        windows = [window for part in parts for window in part.clock]
        self._week = Week(windows) if windows else None
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
        self._by_tier_alone = not (self._borders or self._conditions or self._week)
        self._tier_sheets: dict[str, _Sheet] = {}

    def price(self, usage: Metered, at: datetime) -> Priced | Unpriced:
        """The exact cost of the usage, or what is missing for it; ValueError for a negative count."""
        sheet = self._tier_sheets.get(usage.service_tier) or self._sheet_for(usage, at)
        cost = _ZERO
        lines: list[Line] = []
        for counts, prices in ((usage.tokens, sheet[0]), (usage.quantities, sheet[1])):
            for component, count in counts.items():
                if count > 0:
                    found = prices.get(component)
                    if found is None:
                        return self._missing(component, usage, self._situation(usage, at))
                    cost = _fma(count, found.charged, cost)
                    lines.append((component, count, *found.texts))
                elif count:
                    raise ValueError(f"the count of {component} is negative")
        version = self.version
        return Priced(cost, version.currency, lines, version.valid_from, version.id)

    def _sheet_for(self, usage: Metered, at: datetime) -> _Sheet:
        situation = self._situation(usage, at)
        sheet = self._sheets.get(situation) or self._sheet(situation)
        if self._by_tier_alone and len(self._tier_sheets) < _SHEETS_MAX:
            self._tier_sheets[usage.service_tier] = sheet
        return sheet

    def _situation(self, usage: Metered, at: datetime) -> _Situation:
        tier = usage.service_tier
        band = 0
        if self._borders:
            prompt = sum(count for kind, count in usage.tokens.items() if kind in PROMPT_KINDS)
            band = bisect_left(self._borders, prompt)
        values: tuple[str | None, ...] = ()
        if self._conditions:
            reported = usage.conditions
            values = tuple(_value(reported.get(name), named) for name, named in self._conditions)
        return _Situation(
            tier if tier in self._tiers else ANY, band, self._week.segment(at) if self._week else 0, values
        )

    def _sheet(self, situation: _Situation) -> _Sheet:
        """Puts the lists that apply on top of each other and the factors on them; the last list that applies wins."""
        listed, hidden = self._listed(situation, situation.tier)
        merged = {component: _UnitPrice.of(price, _ONE, price) for component, price in listed.items()}
        for factor in self.version.factors:
            if factor.tier is not None and factor.tier == situation.tier:
                standard, hidden_too = self._listed(situation, STANDARD)
                hidden |= hidden_too
                for component, price in standard.items():
                    if factor.covers(component) and component not in merged:
                        merged[component] = _times(_UnitPrice.of(price, _ONE, price), factor.factor)
        for factor in self.version.factors:
            if factor.tier is None and self._selected(factor, situation):
                merged = {
                    component: _times(found, factor.factor) if factor.covers(component) else found
                    for component, found in merged.items()
                }
        for kind, instead in FALLBACKS.items():
            if kind not in merged and kind not in hidden and instead in merged:
                merged[kind] = merged[instead]
        sheet = (
            {component: found for component, found in merged.items() if component in TOKEN_KINDS},
            {component: found for component, found in merged.items() if component not in TOKEN_KINDS},
        )
        if len(self._sheets) < _SHEETS_MAX:
            self._sheets[situation] = sheet
        return sheet

    def _listed(self, situation: _Situation, tier: str) -> tuple[dict[str, Decimal], set[str]]:
        """The listed prices of a tier, and the components priced here only under conditions that are not met."""
        prices: dict[str, Decimal] = {}
        hidden: set[str] = set()
        for entry in self.version.lists:
            if (tier in entry.tiers or ANY in entry.tiers) and self._fits_length(entry, situation.band):
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
        return met and (not part.clock or any(window.contains(situation.segment) for window in part.clock))

    def _missing(self, component: str, usage: Metered, situation: _Situation) -> Unpriced:
        """Says what an operator has to add so that this usage can be priced."""
        asked = f"{usage.provider} {usage.model} has no price for {component}"
        asked += f" in tier {usage.service_tier}" if usage.service_tier != STANDARD else ""
        if situation.tier not in self._tiers:
            return Unpriced(f"{asked}: the tier has no price")
        names = sorted({name for entry in self.version.lists if component in entry.prices for name in entry.when})
        if names:
            return Unpriced(f"{asked}: it depends on {', '.join(names)}")
        if any(component in entry.prices and entry.by_length for entry in self.version.lists):
            return Unpriced(f"{asked} at this prompt length")
        return Unpriced(asked)


def _borders_of(entry: PriceList) -> list[int]:
    return [border for border in (entry.above, entry.up_to) if border is not None]


def _value(reported: str | None, named: frozenset[str]) -> str | None:
    """The reported value of a condition where the version names it, else `*` for any other, None for none."""
    if reported is None or (reported in named and reported != ANY):
        return reported
    return ANY


def _times(found: _UnitPrice, factor: Decimal) -> _UnitPrice:
    return _UnitPrice.of(found.unit_price, _multiply(found.factor, factor), _multiply(found.charged, factor))
