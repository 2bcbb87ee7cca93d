"""One entry of the LiteLLM file as price lists and factors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any

from services.billing.pricing.clock import ALL_DAYS, Window
from services.billing.pricing.litellm_fields import (
    CONDITIONED_FIELDS,
    CONDITIONED_TOKENS,
    KNOWN_ENTRY_FACTORS,
    SEARCH_FIELD,
    SEARCH_UNIT,
    SEARCH_UNIT_FIELD,
    UNIT_FIELDS,
    looks_like_a_modifier,
    looks_like_a_price,
    token_field,
    variants,
)
from services.billing.pricing.price_file import is_decimal
from services.billing.pricing.version import ANY, FALLBACKS, PROMPT_MAX, STANDARD, Factor, PriceError, PriceList

__all__ = ["Entry", "read_entry"]

_ONE = Decimal(1)
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)", re.ASCII)
_REGION_UPLIFT = re.compile(r"regional_processing_uplift_multiplier_([a-z0-9-]{1,32})", re.ASCII)
_ENDPOINT_UPLIFT = "regional_endpoint_uplift_multiplier"
_SEARCH_SIZE = "search_context_size_"

# Fields of one unit; where an entry has several that are not zero they must agree.
_SECONDS_FIELDS = (
    "cost_per_second",
    "input_cost_per_second",
    "output_cost_per_second",
    "output_cost_per_video_per_second",
)
_CHARACTERS_FIELDS = ("input_cost_per_character", "output_cost_per_character")
_IMAGES_FIELDS = ("output_cost_per_image",)
# Where an image costs by its size, the price of "an image" is that of one size.
_PIXELS_FIELD = "output_cost_per_pixel"
# An image model's "input image" is the image that is made; elsewhere it is one that is sent, for which we have no unit.
_IMAGE_MODES = ("image_generation", "image_edit")

# Prices by (tier, prompt length above which), then by component.
_Table = dict[tuple[str, int], dict[str, Decimal]]


@dataclass
class Entry:
    """What was read of an entry; `left_out` names the price fields that were not understood."""

    lists: tuple[PriceList, ...] = ()
    factors: tuple[Factor, ...] = ()
    left_out: list[str] = field(default_factory=list)


def read_entry(fields: Mapping[str, Any]) -> Entry:
    """Reads all price fields; PriceError when the entry as a whole cannot be taken.

    The order of the fields does not matter, so that a file written in another order changes no price.
    """
    fields = dict(sorted(fields.items()))
    entry = Entry()
    tokens = _token_table(fields)
    ranges = _ranges(fields, tokens)
    off_peak = _off_peak(fields, tokens)
    units, read = _units(fields)
    strange = [name for name in fields if name not in read and _is_strange(name)]
    for name in strange:
        if looks_like_a_modifier(name):
            raise PriceError(f"{name}: changes prices in a way that is not known")
    changed = {field: name for name in strange for field in variants(name, sorted(read))}
    if changed:
        units, read = _units({name: value for name, value in fields.items() if name not in changed})
    entry.left_out += [*strange, *(f"{field}, which {name} changes" for field, name in changed.items())]
    unit = fields.get(SEARCH_UNIT_FIELD, SEARCH_UNIT)
    if unit != SEARCH_UNIT:
        entry.left_out.append(f"{SEARCH_UNIT_FIELD} {str(unit)[:40]!r}, which is what web_searches must count here")
    entry.lists = (*units, *(ranges or _token_lists(tokens, entry)), *_conditioned_tokens(fields), *off_peak)
    entry.factors = _factors(fields)
    return entry


def _is_strange(name: str) -> bool:
    """Whether a field looks like a price and is not one that is understood."""
    if token_field(name) or name in CONDITIONED_TOKENS or _REGION_UPLIFT.fullmatch(name):
        return False
    return looks_like_a_price(name) and name not in ("tiered_pricing", "off_peak_pricing", _ENDPOINT_UPLIFT)


def _conditioned_tokens(fields: Mapping[str, Any]) -> list[PriceList]:
    return [
        PriceList({kind: _number(name, fields[name])}, when={condition: value})
        for name, (kind, condition, value) in CONDITIONED_TOKENS.items()
        if name in fields
    ]


def _number(name: str, value: object) -> Decimal:
    """A JSON number or the text of a decimal, both exactly as they are written."""
    if isinstance(value, str) and is_decimal(value):
        value = Decimal(value)
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise PriceError(f"{name}: a number is expected")
    number = Decimal(value)
    if number < 0:
        raise PriceError(f"{name}: must not be negative")
    return number


def _token_table(fields: Mapping[str, Any]) -> _Table:
    """All flat token prices of an entry."""
    table: _Table = {}
    for name, value in fields.items():
        found = token_field(name)
        if found is None:
            continue
        price = _number(name, value)
        prices = table.setdefault((found.tier, found.above), {})
        if prices.setdefault(found.kind, price) != price:
            raise PriceError(f"{name}: another field gives another price of {found.kind}")
    return table


def _token_lists(table: _Table, entry: Entry) -> list[PriceList]:
    """Complete lists per tier and range of prompt length; a range that the file does not price has no list."""
    borders = sorted({above for _, above in table if above})
    lists: list[PriceList] = []
    for tier in dict.fromkeys(tier for tier, _ in table):
        for above, up_to in zip([0, *borders], [*borders, None], strict=True):
            prices = table.get((tier, above))
            if prices is None:
                continue
            unsaid = _unsaid(table.get((tier, 0), {}), prices)
            if unsaid:
                where = f"{tier} above {above}" if above else tier
                entry.left_out.append(f"the prices of {where}, which do not say that of {unsaid}")
                continue
            lists.append(PriceList(prices, (tier,), above or None, up_to))
    return lists


def _unsaid(base: Mapping[str, Decimal], prices: Mapping[str, Decimal]) -> str | None:
    """A kind that would silently be billed as another although the tier's base prices distinguish the two.

    What is read from a cache is never: without its price, only usage of a cache waits.
    """
    for kind, instead in FALLBACKS.items():
        if kind == "cache_read":
            continue
        if kind in base and kind not in prices and instead in prices and base[kind] != base.get(instead):
            return kind
    return None


def _ranges(fields: Mapping[str, Any], flat: _Table) -> list[PriceList]:
    """The lists of an entry that is priced by ranges of prompt length, the lower end exclusive."""
    if "tiered_pricing" not in fields:
        return []
    tiers = fields["tiered_pricing"]
    if not isinstance(tiers, list) or not tiers:
        raise PriceError("tiered_pricing: an array is expected")
    lists = [_range(f"tiered_pricing[{index}]", tier) for index, tier in enumerate(tiers)]
    lists.sort(key=lambda each: each.above or 0)
    for lower, upper in pairwise(lists):
        if lower.up_to != upper.above:
            raise PriceError("tiered_pricing: the ranges overlap or leave a gap")
    if any(key != (STANDARD, 0) for key in flat):
        raise PriceError("tiered_pricing: stands beside thresholds or service tiers")
    for kind, price in flat.get((STANDARD, 0), {}).items():
        if lists[0].prices.get(kind) != price:
            raise PriceError(f"tiered_pricing: contradicts the flat price of {kind}")
    return lists


def _range(path: str, tier: object) -> PriceList:
    if not isinstance(tier, dict):
        raise PriceError(f"{path}: an object is expected")
    ends = tier.get("range")
    if not isinstance(ends, list) or len(ends) != 2:
        raise PriceError(f"{path}: a range of prompt tokens is expected")
    low, high = (_number(f"{path}.range", end) for end in ends)
    if max(low, high) > PROMPT_MAX or low != int(low) or high != int(high):
        raise PriceError(f"{path}.range: whole numbers of tokens are expected")
    prices: dict[str, Decimal] = {}
    for name, value in tier.items():
        found = token_field(name)
        if name != "range" and (found is None or (found.tier, found.above) != (STANDARD, 0)):
            raise PriceError(f"{path}: {name} is not known")
        if found is not None:
            prices[found.kind] = _number(f"{path}.{name}", value)
    return PriceList(prices, above=int(low) or None, up_to=int(high))


def _off_peak(fields: Mapping[str, Any], flat: _Table) -> list[PriceList]:
    """The list of the hours with other prices; it must re-price every token kind that costs something."""
    if "off_peak_pricing" not in fields:
        return []
    block = fields["off_peak_pricing"]
    if not isinstance(block, dict):
        raise PriceError("off_peak_pricing: an object is expected")
    prices: dict[str, Decimal] = {}
    for name, value in block.items():
        found = token_field(name)
        if found is not None and (found.tier, found.above) == (STANDARD, 0):
            prices[found.kind] = _number(f"off_peak_pricing.{name}", value)
        elif name not in ("windows", "hours_utc"):
            raise PriceError(f"off_peak_pricing: {name} cannot be expressed, windows are in UTC")
    if any(key != (STANDARD, 0) for key in flat):
        raise PriceError("off_peak_pricing: stands beside thresholds or service tiers")
    for kind, price in flat.get((STANDARD, 0), {}).items():
        if price and kind not in prices:
            raise PriceError(f"off_peak_pricing: does not say the price of {kind}")
    windows = _all_windows(block)
    if not windows or not prices:
        raise PriceError("off_peak_pricing: has no windows or no prices")
    return [PriceList(prices, clock=windows)]


def _all_windows(block: Mapping[str, Any]) -> tuple[Window, ...]:
    rules = block.get("windows", [])
    if not isinstance(rules, list):
        raise PriceError("off_peak_pricing.windows: an array is expected")
    if "hours_utc" in block:
        rules = [{"hours_utc": block["hours_utc"]}, *rules]
    return tuple(window for rule in rules for window in _windows(rule))


def _windows(rule: object) -> tuple[Window, ...]:
    """The windows of one rule; its weekdays are those of the moment, so one over midnight has none of its own."""
    path = "off_peak_pricing.windows"
    if not isinstance(rule, dict) or not rule.keys() <= {"hours_utc", "weekdays"}:
        raise PriceError(f"{path}: hours_utc and weekdays are expected")
    weekdays = rule.get("weekdays", list(ALL_DAYS))
    if not isinstance(weekdays, list) or not weekdays or any(type(day) is not int for day in weekdays):
        raise PriceError(f"{path}.weekdays: numbers from 1 to 7 are expected")
    hours = rule.get("hours_utc", "00:00-00:00")
    texts: Sequence[object] = hours if isinstance(hours, list) else [hours]
    windows = []
    for text in texts:
        found = _HOURS.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise PriceError(f"{path}.hours_utc: HH:MM-HH:MM is expected")
        numbers = [int(number) for number in found.groups()]
        start, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
        if 0 < end < start and tuple(weekdays) != ALL_DAYS:
            raise PriceError(f"{path}: hours over midnight on some weekdays are ambiguous")
        try:
            windows.append(Window(start, end, tuple(weekdays)))
        except ValueError as error:
            raise PriceError(f"{path}: {error}") from None
    return tuple(windows)


def _units(fields: Mapping[str, Any]) -> tuple[list[PriceList], set[str]]:
    """The lists of everything that is not a token, and the fields that are thereby read."""
    by_tier: dict[str, dict[str, Decimal]] = {}
    read: set[str] = set()
    lists: list[PriceList] = []
    for name, (unit, tier) in UNIT_FIELDS.items():
        if name in fields:
            by_tier.setdefault(tier, {})[unit] = _number(name, fields[name])
            read.add(name)
    images = () if fields.get(_PIXELS_FIELD) else _IMAGES_FIELDS
    if fields.get("mode") in _IMAGE_MODES and not any(name in fields for name in _IMAGES_FIELDS):
        images = ("input_cost_per_image",)
    for unit, names in (("seconds", _SECONDS_FIELDS), ("characters", _CHARACTERS_FIELDS), ("images", images)):
        given = {name: _number(name, fields[name]) for name in names if name in fields}
        charged = {price for price in given.values() if price}
        if given and len(charged) <= 1:
            by_tier.setdefault(STANDARD, {})[unit] = charged.pop() if charged else Decimal(0)
            read.update(given)
    for name, value in fields.items():
        for pattern, unit, condition in CONDITIONED_FIELDS:
            found = pattern.fullmatch(name)
            if found:
                lists.append(PriceList({unit: _number(name, value)}, when={condition: found[1]}))
                read.add(name)
    searches = _searches(fields)
    if searches:
        read.add(SEARCH_FIELD)
    plain = [PriceList(prices, (tier,)) for tier, prices in by_tier.items()]
    return [*plain, *lists, *searches], read


def _searches(fields: Mapping[str, Any]) -> list[PriceList]:
    """Web searches: one price, or one for each size of search context where these differ."""
    sizes = fields.get(SEARCH_FIELD)
    if not isinstance(sizes, dict) or not sizes:
        return []
    prices = {name: _number(f"{SEARCH_FIELD}.{name}", value) for name, value in sizes.items()}
    if len(set(prices.values())) == 1:
        return [PriceList({"web_searches": next(iter(prices.values()))}, (ANY,))]
    return [
        PriceList({"web_searches": price}, (ANY,), when={"search_context_size": name.removeprefix(_SEARCH_SIZE)})
        for name, price in sorted(prices.items())
    ]


def _factors(fields: Mapping[str, Any]) -> tuple[Factor, ...]:
    """The multipliers of token prices by region and speed."""
    factors: list[Factor] = []
    for name, value in fields.items():
        region = _REGION_UPLIFT.fullmatch(name)
        if region:
            factors.append(Factor(_number(name, value), when={"region": region[1]}))
        elif name == _ENDPOINT_UPLIFT:
            # Every endpoint but the global one costs more; naming the global one keeps it out of "any other".
            factors.append(Factor(_ONE, when={"region": "global"}))
            factors.append(Factor(_number(name, value), when={"region": ANY}))
    special = fields.get("provider_specific_entry", {})
    if not isinstance(special, dict):
        raise PriceError("provider_specific_entry: an object is expected")
    for name, value in sorted(special.items()):
        path = f"provider_specific_entry.{name}"
        if name in KNOWN_ENTRY_FACTORS:
            condition, wanted = KNOWN_ENTRY_FACTORS[name]
            factors.append(Factor(_number(path, value), when={condition: wanted}))
        elif isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            raise PriceError(f"{path}: changes prices in a way that is not known")
    return tuple(factors)
