"""Odd entries of LiteLLM price lists, as people write them by hand and as the public list has them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from services.billing.pricing import Metered, PriceBook, Priced, PriceFile, Unpriced, read_litellm_file

VALID_FROM = datetime(2026, 1, 1, tzinfo=UTC)
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def read(**entries: dict[str, Any]) -> PriceFile:
    """The file with these entries, all of one provider."""
    content = {
        f"acme/{model}": {"litellm_provider": "acme", "mode": "chat", **entry} for model, entry in entries.items()
    }
    return read_litellm_file(json.dumps(content).encode(), VALID_FROM)


def cost(
    file: PriceFile,
    model: str,
    tokens: dict[str, int] | None = None,
    quantities: dict[str, str] | None = None,
    tier: str = "standard",
    **conditions: str,
) -> Decimal | str:
    """What usage costs by the file, or what is missing."""
    amounts = {name: Decimal(amount) for name, amount in (quantities or {}).items()}
    found = PriceBook(file.versions).price(Metered("acme", model, tokens or {}, amounts, tier, conditions), AT)
    assert isinstance(found, Priced | Unpriced)
    return found.cost if isinstance(found, Priced) else found.reason


def whys(file: PriceFile) -> dict[str, str]:
    """What was not read at all, by entry."""
    return dict(file.unreadable)


def parts(file: PriceFile) -> dict[str, str]:
    """What was read in part, by entry."""
    return dict(file.partly_read)


FLAT = {
    "input_cost_per_token": 2e-06,
    "output_cost_per_token": 8e-06,
    "cache_read_input_token_cost": 2e-07,
}


@pytest.mark.parametrize(("threshold", "tokens"), [("64k", 64_000), ("96000", 96_000), ("200k", 200_000)])
def test_any_threshold_counts_cached_tokens_and_reprices_the_whole_call(threshold: str, tokens: int) -> None:
    above = {
        f"{name}_above_{threshold}_tokens": price for name, price in zip(FLAT, (3e-06, 1.1e-05, 3e-07), strict=True)
    }
    file = read(long=FLAT | above)
    assert (file.unreadable, file.partly_read) == ((), ())
    plain = tokens - 4000
    at_border = {"input": plain, "cache_read": 4000, "output": 1000}
    assert cost(file, "long", at_border) == plain * Decimal("2e-06") + Decimal("0.0088")
    above_it = {"input": plain, "cache_read": 4001, "output": 1000}
    assert cost(file, "long", above_it) == plain * Decimal("3e-06") + Decimal("0.0122003")


def test_a_threshold_in_seconds_takes_the_price_of_seconds_away() -> None:
    file = read(
        only={"input_cost_per_second": 0.001, "input_cost_per_second_above_15s_interval": 0.002},
        both=FLAT | {"output_cost_per_second": 0.001, "output_cost_per_second_above_8s_interval": 0.002},
    )
    assert "input_cost_per_second_above_15s_interval" in whys(file)["acme/only"]
    assert parts(file)["acme/both"] == (
        "taken without: output_cost_per_second_above_8s_interval;"
        " output_cost_per_second, which output_cost_per_second_above_8s_interval changes"
    )
    assert cost(file, "both", {"input": 1000}) == Decimal("0.002")
    assert cost(file, "both", quantities={"seconds": "5"}) == "acme both has no price for seconds"


@pytest.mark.parametrize(
    "fields",
    [
        {"input_cost_per_character": 5e-06, "output_cost_per_character": 1.5e-05},
        {"input_cost_per_character": 5e-06, "input_cost_per_character_above_128k_tokens": 1e-05},
        {"mode": "image_generation", "output_cost_per_image": 0.025, "output_cost_per_pixel": 2.384185791015625e-08},
        {"input_cost_per_request": 0.1, "input_cost_per_request_peak": 0.2},
    ],
)
def test_another_unit_of_the_same_takes_the_price_away(fields: dict[str, Any]) -> None:
    file = read(m=FLAT | fields)
    for name in fields.keys() - {"mode"}:
        assert name in parts(file)["acme/m"]
    for unit in ("characters", "images", "requests"):
        assert cost(file, "m", quantities={unit: "1"}) == f"acme m has no price for {unit}"
    assert cost(file, "m", {"input": 1000}) == Decimal("0.002")


@pytest.mark.parametrize(
    "name",
    [
        "input_cost_per_token_above_1m_tokens",
        "input_cost_per_token_above_15s_interval",
        "output_cost_per_token_per_hour",
        "batched_input_cost_per_token",
        "tokens_pricing",
    ],
)
def test_a_key_that_changes_a_price_of_tokens_keeps_the_entry_out(name: str) -> None:
    file = read(m=FLAT | {name: 1e-06}, n=FLAT)
    assert whys(file) == {"acme/m": f"{name}: changes prices in a way that is not known"}
    assert cost(file, "m", {"input": 1}) == "acme m is not in the price book"
    assert cost(file, "n", {"input": 1000}) == Decimal("0.002")


def test_a_tier_that_is_not_known_is_named_and_changes_nothing_else() -> None:
    file = read(m=FLAT | {"input_cost_per_token_glacial": 1e-07})
    assert parts(file) == {"acme/m": "taken without: input_cost_per_token_glacial"}
    assert cost(file, "m", {"input": 1000}) == Decimal("0.002")
    assert "the tier has no price" in str(cost(file, "m", {"input": 1000}, tier="glacial"))


def test_prices_written_as_texts_are_exact_and_odd_ones_are_named() -> None:
    price = "input_cost_per_token"
    file = read(
        m1={price: "3e-07", "output_cost_per_token": "9e-07"},
        m2={price: None, "output_cost_per_token": None},
        m3={price: 0, "output_cost_per_token": 0},
        m4={price: 0, "output_cost_per_token": 5e-06},
        m5={price: True, "output_cost_per_token": 5e-06},
        m6={price: "", "output_cost_per_token": 5e-06},
        m7={price: -1e-06, "output_cost_per_token": 5e-06},
        m8={"tiered_pricing": [{"range": [0, 32000], price: "1e-06", "output_cost_per_token": "0.000002"}]},
        m9={price: "1_000", "output_cost_per_token": 5e-06},
        m10={price: "NaN", "output_cost_per_token": 5e-06},
        m11={price: "-1e-06", "output_cost_per_token": 5e-06},
        m12={price: "1e-30", "output_cost_per_token": 5e-06},
        m13={**FLAT, "input_cost_per_request": None},
        m14={**FLAT, "search_context_cost_per_query": {"search_context_size_low": None}},
        m15={**FLAT, "provider_specific_entry": {"us": True}},
        m16={**FLAT, "regional_processing_uplift_multiplier_eu": "1.1"},
    )
    tokens = {"input": 1000, "output": 200}
    assert cost(file, "m1", tokens) == Decimal("0.00048")
    assert cost(file, "m3", tokens) == 0
    assert cost(file, "m4", tokens) == Decimal("0.001")
    assert cost(file, "m8", tokens) == Decimal("0.0014")
    assert cost(file, "m16", tokens, region="eu") == Decimal("0.00396")
    unreadable = {f"acme/m{number}" for number in (2, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15)}
    assert whys(file).keys() == unreadable
    for entry in unreadable:
        assert cost(file, entry.removeprefix("acme/"), tokens) == f"acme {entry[5:]} is not in the price book"
        assert ": " in whys(file)[entry]


def test_kinds_that_a_tier_does_not_name() -> None:
    file = read(
        r1={
            "input_cost_per_token": 1.25e-06,
            "input_cost_per_token_priority": 2.25e-06,
            "output_cost_per_token": 1e-05,
            "output_cost_per_token_priority": 1.8e-05,
        },
        b1={
            "input_cost_per_token": 2e-06,
            "input_cost_per_token_batches": 1e-06,
            "cache_read_input_token_cost": 5e-07,
            "output_cost_per_token": 4e-06,
            "output_cost_per_token_batches": 2e-06,
        },
        thinker={
            "input_cost_per_token": 1e-06,
            "output_cost_per_token": 8e-06,
            "output_cost_per_token_batches": 4e-06,
            "output_cost_per_reasoning_token": 3e-06,
        },
    )
    assert (file.unreadable, file.partly_read) == ((), ())
    assert cost(file, "r1", {"input": 7, "output": 1, "reasoning": 160}, tier="priority") == Decimal("0.00291375")
    assert cost(file, "b1", {"input": 100, "cache_read": 900}, tier="batch") == Decimal("0.00055")
    assert "the tier has no price" in str(cost(file, "r1", {"input": 10}, tier="flex"))
    assert cost(file, "r1", {"input": 1_000_000}, tier="on_demand") == Decimal("1.25")
    assert "asked for" in str(cost(file, "r1", {"input": 10}, tier="auto"))
    # Thinking has a standard price of its own, so in the batch it is that.
    assert cost(file, "thinker", {"reasoning": 1000}, tier="batch") == Decimal("0.003")


def test_searches_by_size_and_by_another_unit() -> None:
    same = {f"search_context_size_{size}": 0.014 for size in ("low", "medium", "high")}
    differing = {**same, "search_context_size_high": 0.028}
    file = read(
        ws={"input_cost_per_token": 2e-06, "search_context_cost_per_query": same},
        by_size={"input_cost_per_token": 2e-06, "search_context_cost_per_query": differing},
        by_query={**FLAT, "search_context_cost_per_query": same, "web_search_billing_unit": "per_query"},
        by_prompt={**FLAT, "search_context_cost_per_query": same, "web_search_billing_unit": "per_prompt"},
    )
    assert cost(file, "ws", {"input": 1000}, {"web_searches": "2"}) == Decimal("0.030")
    assert cost(file, "ws", {"input": 1000}) == Decimal("0.002")
    assert "depends on search_context_size" in str(cost(file, "by_size", {}, {"web_searches": "1"}))
    named = "taken without: web_search_billing_unit 'per_prompt', which is what web_searches must count here"
    assert parts(file) == {"acme/by_prompt": named}


def test_a_region_costs_more_for_every_kind_and_no_other_region_does() -> None:
    file = read(eu=FLAT | {"regional_processing_uplift_multiplier_eu": 1.1})
    tokens = {"input": 1000, "output": 100, "cache_read": 1000}
    assert cost(file, "eu", tokens, region="eu") == Decimal("0.0033")
    assert cost(file, "eu", tokens) == cost(file, "eu", tokens, region="jp") == Decimal("0.003")


def test_compound_names_and_kinds_that_few_models_have() -> None:
    file = read(
        m={
            **FLAT,
            "cache_creation_input_token_cost_above_1hr": 4e-06,
            "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 8e-06,
            "input_cost_per_token_above_200k_tokens": 4e-06,
            "output_cost_per_token_decisions": 0,
            "cache_read_input_image_token_cost": 5e-07,
        },
        explicit={**FLAT, "explicit_cache_read_input_token_cost": 1e-07},
    )
    assert (file.unreadable, file.partly_read) == ((), ())
    assert cost(file, "m", {"cache_write_1h": 1000}) == Decimal("0.004")
    assert cost(file, "m", {"input": 200_000, "cache_write_1h": 1000}) == Decimal("0.808")
    assert cost(file, "m", {"input": 1, "output": 1}, tier="decisions") == Decimal("0.000002")
    assert cost(file, "m", {"image_cache_read": 1000}) == Decimal("0.0005")
    # Above the threshold the file says nothing of what is read from a cache, so only that waits.
    assert "cache_read at this prompt length" in str(cost(file, "m", {"input": 200_001, "cache_read": 1}))
    assert cost(file, "explicit", {"cache_read": 1000}) == Decimal("0.0002")
    assert cost(file, "explicit", {"cache_read": 1000}, cache="explicit") == Decimal("0.0001")
