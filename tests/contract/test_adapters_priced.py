"""What answers cost by a price list: faults of public reports about cached and reasoning tokens, each named with the
amount that it gave."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from rappen_contracts.adapters import anthropic, gemini, groq, openai, opentelemetry, xai
from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.pricing import Metered, PriceBook, Priced, Unpriced, read_litellm_file

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
WHO: Any = {"mandate_id": "acme-ag", "user_id": "anna.keller", "provider": "acme", "model": "m"}
CACHED = {"input_cost_per_token": 2e-06, "cache_read_input_token_cost": 2e-07, "output_cost_per_token": 8e-06}


def _cost(prices: dict[str, Any], events: list[UsageRecorded]) -> Decimal | str:
    """What the events cost together, or what is missing for one of them."""
    entry = {"litellm_provider": "acme", "mode": "chat"} | prices
    book = PriceBook(
        read_litellm_file(json.dumps({"acme/m": entry}).encode(), datetime(2026, 1, 1, tzinfo=UTC)).versions
    )
    total = Decimal(0)
    for event in events:
        tokens = event.tokens.counts() if event.tokens else {}
        usage = Metered(
            *("acme", "m", tokens, event.quantities or {}, event.service_tier or "standard", event.conditions or {})
        )
        found = book.price(usage, AT)
        if isinstance(found, Unpriced):
            return found.reason
        assert isinstance(found, Priced)
        total += found.cost
    return total


REPORTS: list[tuple[str, dict[str, Any], Callable[[], list[UsageRecorded]], str]] = [
    (
        "images by the text price (case B06): 0.016025",
        {
            "input_cost_per_token": 5e-06,
            "input_cost_per_image_token": 8e-06,
            "output_cost_per_token": 1e-05,
            "output_cost_per_image_token": 3.2e-05,
        },
        lambda: openai.images(
            {
                "usage": {
                    "input_tokens": 57,
                    "input_tokens_details": {"text_tokens": 37, "image_tokens": 20},
                    "output_tokens": 1568,
                    "total_tokens": 1625,
                }
            },
            **WHO,
        ),
        "0.050521",
    ),
    (
        "reasoning by the price of another tier (case B03): 0.00163375",
        {
            "input_cost_per_token": 1.25e-06,
            "input_cost_per_token_priority": 2.25e-06,
            "output_cost_per_token": 1e-05,
            "output_cost_per_token_priority": 1.8e-05,
        },
        lambda: openai.chat(
            {
                "service_tier": "priority",
                "usage": {
                    "prompt_tokens": 7,
                    "completion_tokens": 161,
                    "total_tokens": 168,
                    "completion_tokens_details": {"reasoning_tokens": 160},
                },
            },
            **WHO,
        ),
        "0.00291375",
    ),
    (
        "Gemini's cache hits billed as prompt too (litellm 14849): 0.666",
        CACHED,
        lambda: gemini.generate_content(
            {
                "usageMetadata": {
                    "promptTokenCount": 300000,
                    "cachedContentTokenCount": 290000,
                    "candidatesTokenCount": 100,
                    "thoughtsTokenCount": 900,
                    "totalTokenCount": 301000,
                }
            },
            **WHO,
        ),
        "0.086",
    ),
    (
        "xAI's cache hits billed as prompt too (litellm 14874): 0.047",
        CACHED,
        lambda: xai.chat(
            {
                "usage": {
                    "prompt_tokens": 20000,
                    "completion_tokens": 100,
                    "total_tokens": 20400,
                    "prompt_tokens_details": {"cached_tokens": 19000},
                    "completion_tokens_details": {"reasoning_tokens": 300},
                }
            },
            **WHO,
        ),
        "0.009",
    ),
    (
        "Anthropic's cache left out (litellm 11364): 0.0041",
        CACHED | {"cache_creation_input_token_cost": 2.5e-06},
        lambda: anthropic.messages(
            {
                "usage": {
                    "input_tokens": 50,
                    "cache_read_input_tokens": 100000,
                    "cache_creation_input_tokens": 2000,
                    "output_tokens": 500,
                }
            },
            **WHO,
        ),
        "0.0291",
    ),
    (
        "OpenAI's cache writes left in the prompt (litellm 33772): 0.0016",
        CACHED | {"cache_creation_input_token_cost": 2.5e-06},
        lambda: openai.chat(
            {
                "usage": {
                    "prompt_tokens": 2600,
                    "completion_tokens": 0,
                    "total_tokens": 2600,
                    "prompt_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 400},
                }
            },
            **WHO,
        ),
        "0.0018",
    ),
    (
        "the cache of a span counted beside an input that contains it (langfuse 10592): 0.0393694",
        CACHED,
        lambda: opentelemetry.span(
            {
                "gen_ai.usage.input_tokens": 17903,
                "gen_ai.usage.cache_read.input_tokens": 17817,
                "gen_ai.usage.output_tokens": 0,
            },
            **WHO,
        ),
        "0.0037354",
    ),
    (
        "an advisor left out of the bill: 0.0006",
        CACHED,
        lambda: anthropic.messages(
            {
                "usage": {
                    "input_tokens": 100,
                    "output_tokens": 50,
                    "iterations": [
                        {"type": "message", "input_tokens": 100, "output_tokens": 50},
                        {"type": "advisor_message", "model": "m", "input_tokens": 800, "output_tokens": 1600},
                    ],
                }
            },
            **WHO,
        ),
        "0.015",
    ),
    (
        "a compound system billed as its sum and its parts: 0.00216",
        CACHED,
        lambda: groq.chat(
            {
                "usage": {"prompt_tokens": 300, "completion_tokens": 60, "total_tokens": 360},
                "usage_breakdown": {
                    "models": [
                        {"model": "m", "usage": {"prompt_tokens": 100, "completion_tokens": 20}},
                        {"model": "m", "usage": {"prompt_tokens": 200, "completion_tokens": 40}},
                    ]
                },
            },
            **WHO,
        ),
        "0.00108",
    ),
    (
        "a region that costs more (case B07): 0.008",
        {
            "input_cost_per_token": 5e-06,
            "output_cost_per_token": 3e-05,
            "regional_processing_uplift_multiplier_eu": 1.1,
        },
        lambda: openai.chat(
            {"usage": {"prompt_tokens": 1000, "completion_tokens": 100}}, **WHO, conditions={"region": "eu"}
        ),
        "0.0088",
    ),
]


@pytest.mark.parametrize(("prices", "read", "right"), [each[1:] for each in REPORTS], ids=[each[0] for each in REPORTS])
def test_an_answer_costs_what_its_provider_bills(
    prices: dict[str, Any], read: Callable[[], list[UsageRecorded]], right: str
) -> None:
    assert _cost(prices, read()) == Decimal(right)


def test_a_write_that_is_kept_longer_waits_for_its_price_instead_of_taking_the_lower_one() -> None:
    sent = {"cache_write_tokens": 400, "cache_write_tokens_details": {"ttl_12h_tokens": 400, "ttl_30m_tokens": 0}}
    usage = {"input_tokens": 400, "output_tokens": 1, "input_tokens_details": sent}
    prices = CACHED | {"cache_creation_input_token_cost": 2.5e-06}
    assert _cost(prices, openai.responses({"usage": usage}, **WHO)) == "acme m has no price for cache_write_1h"


def test_images_of_a_prompt_cost_what_its_text_does_and_audio_waits_for_its_price() -> None:
    def answer(modality: str) -> dict[str, Any]:
        details = [{"modality": modality, "tokenCount": 100}]
        return {"usageMetadata": {"promptTokenCount": 100, "totalTokenCount": 100, "promptTokensDetails": details}}

    assert _cost(CACHED, gemini.generate_content(answer("IMAGE"), **WHO)) == Decimal("0.0002")
    assert _cost(CACHED, gemini.generate_content(answer("AUDIO"), **WHO)) == "acme m has no price for audio_input"
