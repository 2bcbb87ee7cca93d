"""Pricing against a straightforward second implementation in fractions, on random books."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from services.billing.pricing import (
    FALLBACKS,
    PROMPT_KINDS,
    TOKEN_KINDS,
    Factor,
    Metered,
    PriceBook,
    Priced,
    PriceError,
    PriceList,
    PriceVersion,
    version_from_text,
    version_to_text,
)
from services.billing.pricing.clock import Window

START = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = ["input", "cache_read", "output", "reasoning", "image_input"]
UNITS = ["images", "web_searches"]
TIERS = ["standard", "batch", "flex"]
CONDITIONS = {"region": ["us", "eu", "*"], "speed": ["fast"]}

money = st.integers(0, 10**20).map(lambda digits: Decimal(digits).scaleb(-24))
conditions = st.dictionaries(st.sampled_from(sorted(CONDITIONS)), st.just(""), max_size=2).flatmap(
    lambda names: st.fixed_dictionaries({name: st.sampled_from(CONDITIONS[name]) for name in names})
)
windows = st.lists(
    st.builds(
        Window,
        st.integers(0, 1439),
        st.integers(0, 1440),
        st.lists(st.integers(1, 7), min_size=1, max_size=7, unique=True).map(tuple),
        st.sampled_from(["UTC", "UTC", "Europe/Zurich", "America/St_Johns"]),
    ),
    max_size=2,
).map(tuple)
price_lists = st.builds(
    PriceList,
    prices=st.dictionaries(st.sampled_from(KINDS + UNITS), money, min_size=1),
    tiers=st.one_of(st.just(("*",)), st.lists(st.sampled_from(TIERS), min_size=1, max_size=2, unique=True).map(tuple)),
    above=st.sampled_from([None, None, 10, 100]),
    up_to=st.sampled_from([None, None, 100, 200]),
    when=conditions,
    clock=windows,
)
factors = st.one_of(
    st.builds(
        Factor,
        st.sampled_from([Decimal("0.5"), Decimal("1.1")]),
        tier=st.sampled_from(["batch", "flex"]),
        applies_to=st.sampled_from(["tokens", "all"]),
    ),
    st.builds(
        Factor,
        st.sampled_from([Decimal("0.5"), Decimal("1.1")]),
        when=conditions.filter(bool),
        clock=windows,
        applies_to=st.sampled_from(["tokens", "all"]),
    ),
)


@st.composite
def versions(draw: st.DrawFn) -> PriceVersion:
    lists = tuple(draw(st.lists(price_lists, min_size=1, max_size=6)))
    rates = tuple(
        {factor.tier or index: factor for index, factor in enumerate(draw(st.lists(factors, max_size=3)))}.values()
    )
    valid_from = START + timedelta(days=draw(st.integers(0, 3)))
    try:
        return PriceVersion("acme", "m1", "USD", valid_from, lists, rates)
    except PriceError:
        # Token prices with and without a length in one tier: give all of them one, so that no draw is thrown away.
        measured = tuple(
            PriceList(each.prices, each.tiers, each.above or 10, max(each.up_to or 100, 100), each.when, each.clock)
            if (each.above or 0) < 100
            else PriceList(each.prices, each.tiers, 100, None, each.when, each.clock)
            for each in lists
        )
        return PriceVersion("acme", "m1", "USD", valid_from, measured, rates)


metered = st.builds(
    Metered,
    st.just("acme"),
    st.just("m1"),
    st.dictionaries(st.sampled_from(KINDS), st.integers(0, 120), max_size=4),
    st.dictionaries(st.sampled_from(UNITS), st.decimals(0, 50, places=3), max_size=2),
    st.sampled_from([*TIERS, "priority"]),
    st.dictionaries(
        st.sampled_from(["region", "speed", "mood"]), st.sampled_from(["us", "eu", "asia", "fast"]), max_size=3
    ),
)
moments = st.integers(-3 * 24 * 60, 14 * 24 * 60).map(lambda minutes: START + timedelta(minutes=minutes))


def naive_price(book: list[PriceVersion], usage: Metered, at: datetime) -> Fraction | None:
    """The cost by the documented rules, step by step; None where something is missing."""
    held = [version for version in book if version.valid_from <= at]
    if not held:
        return None
    version = sorted(held, key=lambda each: each.valid_from)[-1]
    total = Fraction(0)
    for counts, tokens in ((usage.tokens, True), (usage.quantities, False)):
        for component, count in counts.items():
            if count and (component in TOKEN_KINDS) != tokens:
                return None
            if count:
                price = naive_unit_price(version, component, usage, at)
                if price is None:
                    return None
                total += Fraction(count) * price
    return total


def naive_unit_price(version: PriceVersion, component: str, usage: Metered, at: datetime) -> Fraction | None:
    tier = usage.service_tier
    price, hidden = naive_listed(version, component, usage, at, tier)
    tier_factor = next((each for each in version.factors if each.tier == tier), None)
    known = tier_factor is not None or any(tier in each.tiers for each in version.lists)
    of_tier = naive_lists_with(version, component, tier)
    if tier != "standard" and known:
        standard, hidden_in_standard = naive_listed(version, component, usage, at, "standard")
        if price is None and standard is not None:
            if tier_factor and naive_covers(tier_factor, component):
                price = standard * Fraction(tier_factor.factor)
            elif component in TOKEN_KINDS and not of_tier:
                price = standard
        hidden = hidden or (hidden_in_standard and (tier_factor is not None or not of_tier))
    if price is None:
        instead = FALLBACKS.get(component)
        told_apart = any(
            each.prices[component] != each.prices.get(instead or "")
            for each in of_tier or naive_lists_with(version, component, "standard")
        )
        return naive_unit_price(version, instead, usage, at) if instead and not hidden and not told_apart else None
    for factor in version.factors:
        if factor.tier is None and naive_covers(factor, component) and naive_applies(version, factor, usage, at):
            price *= Fraction(factor.factor)
    return price


def naive_lists_with(version: PriceVersion, component: str, tier: str) -> list[PriceList]:
    return [each for each in version.lists if component in each.prices and {tier, "*"} & set(each.tiers)]


def naive_covers(factor: Factor, component: str) -> bool:
    return factor.applies_to == "all" or component in TOKEN_KINDS


def naive_listed(
    version: PriceVersion, component: str, usage: Metered, at: datetime, tier: str
) -> tuple[Fraction | None, bool]:
    """The price in the last list that applies, and whether one is hidden behind a condition or window instead."""
    prompt = sum(usage.tokens.get(kind, 0) for kind in PROMPT_KINDS)
    price, hidden = None, False
    for each in version.lists:
        if tier not in each.tiers and "*" not in each.tiers:
            continue
        if (each.above is not None and prompt <= each.above) or (each.up_to is not None and prompt > each.up_to):
            continue
        if component in each.prices:
            if naive_applies(version, each, usage, at):
                price = Fraction(each.prices[component])
            elif each.when:
                hidden = True
    return price, hidden and price is None


def naive_applies(version: PriceVersion, part: Any, usage: Metered, at: datetime) -> bool:
    for name, wanted in part.when.items():
        parts: list[Any] = [*version.lists, *version.factors]
        named = {each.when.get(name) for each in parts}
        reported = usage.conditions.get(name)
        if (
            reported is None
            or (reported not in named if wanted != "*" else reported in named)
            or wanted not in (reported, "*")
        ):
            return False
    return not part.clock or any(naive_in_window(window, at) for window in part.clock)


def naive_in_window(window: Window, at: datetime) -> bool:
    """Looks at the windows that start today and those that started yesterday."""
    at = at.astimezone(ZoneInfo(window.zone)).replace(tzinfo=None)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    for day in (midnight, midnight - timedelta(days=1)):
        if day.isoweekday() in window.weekdays:
            opens = day + timedelta(minutes=window.start)
            closes = day + timedelta(minutes=window.end)
            if closes <= opens:
                closes += timedelta(days=1)
            if opens <= at < closes:
                return True
    return False


@settings(max_examples=200, deadline=None)
@given(st.lists(versions(), min_size=1, max_size=3), st.lists(metered, min_size=1, max_size=6), moments)
def test_pricing_equals_the_rules_applied_step_by_step(
    book: list[PriceVersion], usages: list[Metered], at: datetime
) -> None:
    fast = PriceBook(book)
    for usage in usages:
        found = fast.price(usage, at)
        expected = naive_price(book, usage, at)
        assert (Fraction(found.cost) if isinstance(found, Priced) else None) == expected
        if isinstance(found, Priced):
            assert Fraction(found.cost) == sum(
                Fraction(count) * Fraction(unit) * Fraction(factor) for _, count, unit, factor in found.lines
            )


@given(versions())
def test_any_version_survives_being_stored(version: PriceVersion) -> None:
    assert version_from_text(version_to_text(version), "") == version
