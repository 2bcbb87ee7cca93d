"""A price version: what one model of one provider costs from a moment on, and what makes such a version valid."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from rappen_contracts.usage import v1
from services.billing.pricing.bounds import OUT_OF_TIME, in_time
from services.billing.pricing.clock import Window

__all__ = [
    "ANY",
    "FALLBACKS",
    "PROMPT_KINDS",
    "PROMPT_MAX",
    "SAME_TIERS",
    "STANDARD",
    "TOKEN_KINDS",
    "UNSERVED",
    "Factor",
    "PriceError",
    "PriceList",
    "PriceVersion",
]

STANDARD = "standard"
ANY = "*"
# Other names that providers give to the standard tier.
SAME_TIERS = {"default": STANDARD, "on_demand": STANDARD}
# What was asked for, not what was served: nothing is priced by it.
UNSERVED = "auto"

# The kinds of the usage.recorded contract. Every other component name is a unit of `quantities`.
TOKEN_KINDS = frozenset(v1.TOKEN_KINDS)

# What the provider was sent: its sum is the prompt length that thresholds look at.
PROMPT_KINDS = TOKEN_KINDS - {"output", "reasoning", "audio_output", "image_output"}

# A kind without a price of its own, and the kind that it is a part of: thinking is output, the text of tools, of images
# and what was read from a cache is prompt. Nothing else falls back: writing to a cache costs more than the prompt does,
# and the prices of audio differ by a multiple.
FALLBACKS = {"reasoning": "output", "cache_read": "input", "tool_input": "input", "image_input": "input"}

_CURRENCY = re.compile(r"[A-Z]{3}")
_DECIMALS_MAX = 24
_INTEGER_DIGITS_MAX = 14
_FACTOR_DECIMALS_MAX = 6
_FACTOR_MAX = 1000
_LISTS_MAX = 200
_PRICES_MAX = 100
_FACTORS_MAX = 16
_CONDITIONS_MAX = 8
_NAME_MAX = 120
_SOURCE_MAX = 500
PROMPT_MAX = 2**53 - 1


class PriceError(ValueError):
    """A price that cannot be taken; the text names the field and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class PriceList:
    """Unit prices and when they apply; a part that is left out does not restrict anything but the tier.

    `above` is exclusive and `up_to` inclusive, both in prompt tokens. `when` gives the value each condition must have.
    """

    prices: Mapping[str, Decimal]
    tiers: tuple[str, ...] = (STANDARD,)
    above: int | None = None
    up_to: int | None = None
    when: Mapping[str, str] = field(default_factory=dict)
    clock: tuple[Window, ...] = ()

    @property
    def by_length(self) -> bool:
        """Whether the prompt length decides on this list."""
        return self.above is not None or self.up_to is not None


@dataclass(frozen=True, slots=True)
class Factor:
    """A multiplier of unit prices: either of a tier (against `standard`) or of conditions and windows."""

    factor: Decimal
    tier: str | None = None
    when: Mapping[str, str] = field(default_factory=dict)
    clock: tuple[Window, ...] = ()
    applies_to: Literal["tokens", "all"] = "tokens"

    def covers(self, component: str) -> bool:
        """Whether the factor multiplies the price of this component."""
        return self.applies_to == "all" or component in TOKEN_KINDS


@dataclass(frozen=True, slots=True)
class PriceVersion:
    """What a model costs from `valid_from` (UTC) on; never edited, a correction is another version.

    `id` is whatever the price store calls the version and has no meaning here; `source` says where the price is from.
    PriceError when the parts do not make a price.
    """

    provider: str
    model: str
    currency: str
    valid_from: datetime
    lists: tuple[PriceList, ...]
    factors: tuple[Factor, ...] = ()
    source: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        _check_name("provider", self.provider)
        _check_name("model", self.model)
        if not _CURRENCY.fullmatch(self.currency):
            raise PriceError("currency: three capital letters are expected")
        _check_time("valid_from", self.valid_from)
        if len(self.source) > _SOURCE_MAX or not self.source.isprintable():
            raise PriceError(f"source: at most {_SOURCE_MAX} printable characters")
        if not 1 <= len(self.lists) <= _LISTS_MAX:
            raise PriceError(f"lists: 1 to {_LISTS_MAX} are expected, a missing price is not zero")
        if len(self.factors) > _FACTORS_MAX:
            raise PriceError(f"factors: at most {_FACTORS_MAX}")
        for index, price_list in enumerate(self.lists):
            _check_list(f"lists[{index}]", price_list)
        for index, factor in enumerate(self.factors):
            _check_factor(f"factors[{index}]", factor)
        factored = [factor.tier for factor in self.factors if factor.tier is not None]
        if len(set(factored)) < len(factored):
            raise PriceError("factors: a tier has one factor at most")
        parts: tuple[PriceList | Factor, ...] = (*self.lists, *self.factors)
        conditions = {name for part in parts for name in part.when}
        if len(conditions) > _CONDITIONS_MAX:
            raise PriceError(f"lists: at most {_CONDITIONS_MAX} different conditions")
        _check_lengths(self.lists)

    def same_prices(self, other: PriceVersion) -> bool:
        """Whether both say the same prices; the dates, the source and the id do not matter."""
        return (self.currency, self.lists, self.factors) == (other.currency, other.lists, other.factors)


def _check_time(path: str, time: datetime) -> None:
    if time.utcoffset() != timedelta(0):
        raise PriceError(f"{path}: a time in UTC is expected")
    if not in_time(time):
        raise PriceError(f"{path}: {OUT_OF_TIME}")


def _check_name(path: str, name: str) -> None:
    if not 1 <= len(name) <= _NAME_MAX:
        raise PriceError(f"{path}: 1 to {_NAME_MAX} characters are expected")
    if not name.isprintable():
        raise PriceError(f"{path}: only printable characters are expected")


def _check_tier(path: str, tier: str) -> None:
    _check_name(path, tier)
    if tier in SAME_TIERS:
        raise PriceError(f"{path}: {tier} means {SAME_TIERS[tier]}, which is the name to price by")
    if tier == UNSERVED:
        raise PriceError(f"{path}: {tier} is what was asked for, not what was served")


def _check_number(path: str, number: Decimal, decimals_max: int) -> None:
    if not number.is_finite() or number < 0:
        raise PriceError(f"{path}: a finite number that is not negative is expected")
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -decimals_max:
        raise PriceError(f"{path}: at most {decimals_max} decimals")
    if number and number.adjusted() >= _INTEGER_DIGITS_MAX:
        raise PriceError(f"{path}: at most {_INTEGER_DIGITS_MAX} digits before the point")


def _check_list(path: str, price_list: PriceList) -> None:
    if not 1 <= len(price_list.prices) <= _PRICES_MAX:
        raise PriceError(f"{path}.prices: 1 to {_PRICES_MAX} are expected, a missing price is not zero")
    for component, price in price_list.prices.items():
        _check_name(f"{path}.prices", component)
        _check_number(f"{path}.prices.{component}", price, _DECIMALS_MAX)
    if not price_list.tiers or (ANY in price_list.tiers and len(price_list.tiers) > 1):
        raise PriceError(f"{path}.tier: a name, several names, or {ANY} alone is expected")
    for tier in price_list.tiers:
        _check_tier(f"{path}.tier", tier)
    for name, border in (("above", price_list.above), ("up_to", price_list.up_to)):
        if border is not None and not 0 <= border <= PROMPT_MAX:
            raise PriceError(f"{path}.{name}: a number of tokens that is not negative is expected")
    if price_list.above is not None and price_list.up_to is not None and price_list.up_to <= price_list.above:
        raise PriceError(f"{path}.up_to: must be more than above")
    _check_conditions(path, price_list.when)


def _check_conditions(path: str, when: Mapping[str, str]) -> None:
    for name, value in when.items():
        _check_name(f"{path}.when", name)
        _check_name(f"{path}.when.{name}", value)


def _check_factor(path: str, factor: Factor) -> None:
    _check_number(f"{path}.factor", factor.factor, _FACTOR_DECIMALS_MAX)
    if factor.factor > _FACTOR_MAX:
        raise PriceError(f"{path}.factor: at most {_FACTOR_MAX}")
    selected = bool(factor.when or factor.clock)
    if (factor.tier is not None) == selected:
        raise PriceError(f"{path}: either tier, or when and clock, must say where the factor applies")
    if factor.tier is not None:
        _check_tier(f"{path}.tier", factor.tier)
        if factor.tier in (STANDARD, ANY):
            raise PriceError(f"{path}.tier: a tier other than {STANDARD} is expected, the factor is against it")
    _check_conditions(path, factor.when)


def _check_lengths(lists: Iterable[PriceList]) -> None:
    """A threshold re-prices the whole call: a token price beside it that ignores the length is a mistake.

    Without this rule a base price of `reasoning` would outlive the threshold that re-prices `output`.
    """
    by_token = [(index, entry) for index, entry in enumerate(lists) if not TOKEN_KINDS.isdisjoint(entry.prices)]
    measured = {tier for _, entry in by_token if entry.by_length for tier in entry.tiers}
    for index, entry in by_token:
        touched = measured and (ANY in measured or ANY in entry.tiers or not measured.isdisjoint(entry.tiers))
        if touched and not entry.by_length:
            raise PriceError(f"lists[{index}]: token prices need above or up_to where others of the tier have it")
