"""The public LiteLLM price file: what its fields mean, and that nothing of it is dropped silently."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from services.billing.pricing import (
    Metered,
    PriceBook,
    Priced,
    PriceFile,
    PriceFileError,
    Unpriced,
    diff,
    read_litellm_file,
    version_from_text,
    version_to_text,
)

SAMPLE = Path(__file__).parent / "data" / "litellm_sample.json"
VALID_FROM = datetime(2026, 1, 1, tzinfo=UTC)
TUESDAY_NOON = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
TUESDAY_RUSH = datetime(2026, 3, 3, 8, 0, tzinfo=UTC)
SUNDAY = datetime(2026, 3, 8, 8, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def sample() -> PriceFile:
    return read_litellm_file(SAMPLE.read_bytes(), VALID_FROM)


@pytest.fixture(scope="module")
def book(sample: PriceFile) -> PriceBook:
    return PriceBook(sample.versions)


def cost(book: PriceBook, usage: Metered, at: datetime = TUESDAY_NOON) -> Decimal:
    found = book.price(usage, at)
    assert isinstance(found, Priced), found
    assert found.currency == "USD"
    return found.cost


def reason(book: PriceBook, usage: Metered, at: datetime = TUESDAY_NOON) -> str:
    found = book.price(usage, at)
    assert isinstance(found, Unpriced), found
    return found.reason


def whys(sample: PriceFile) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for entry, why in (*sample.unreadable, *sample.partly_read):
        named.setdefault(entry, []).append(why)
    return named


def test_every_entry_of_the_file_is_either_taken_or_named_as_unreadable(sample: PriceFile) -> None:
    taken = {(version.provider, version.model) for version in sample.versions}
    refused = {entry for entry, _ in sample.unreadable}
    assert taken == {
        ("openai", "gpt-4o"),
        ("openai", "gpt-5.4"),
        ("openai", "whisper-1"),
        ("anthropic", "claude-sonnet-4-5-20250929"),
        ("google", "gemini-2.5-pro"),
        ("google", "gemini-2.5-flash"),
        ("vertex_ai", "gemini-3.5-flash"),
        ("dashscope", "qwen-plus"),
        ("dashscope", "wan3.0-video"),
        ("deepseek", "deepseek-flash"),
        ("deepseek", "deepseek-chat"),
        ("novita", "noisy-embedding"),
        ("ollama", "llama3"),
        ("azure", "eu/gpt-4o-mini"),
        ("bedrock", "anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("bedrock", "us-gov-west-1/anthropic.claude-3-haiku"),
        ("mistral", "mistral-ocr-latest"),
        ("fal_ai", "nano-banana-2"),
        ("perplexity", "sonar-pro"),
        ("kyma", "thinker"),
    }
    assert refused == {
        "sample_spec",
        "exa_ai/search",
        "tencent/deepseek-v4.1-flash",
        "gemini-exp-1206",
        "gemini/gemini-exp-1206",
        "azure/hd/1024-x-1024/dall-e-3",
        "github_copilot/gpt-4.1",
        "minimax/music",
        "kyma/strange-threshold",
        "broken/negative",
        "broken/text",
        "broken/list",
        "fallback_generalizations",
    }


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("exa_ai/search", "tiered_pricing[0]: a range of prompt tokens is expected"),
        (
            "tencent/deepseek-v4.1-flash",
            "off_peak_pricing: weekday_timezone cannot be expressed, windows are in UTC",
        ),
        (
            "gemini-exp-1206",
            "contradictory prices of one model: gemini-exp-1206, gemini/gemini-exp-1206",
        ),
        (
            "azure/hd/1024-x-1024/dall-e-3",
            "no price that we can read (input_cost_per_pixel), and a missing price is not zero",
        ),
        ("github_copilot/gpt-4.1", "no price, and a missing price is not zero"),
        (
            "minimax/music",
            "provider_specific_entry.minimax_free_input_images: changes prices in a way that is not known",
        ),
        (
            "kyma/strange-threshold",
            "input_cost_per_token_above_1m_tokens: changes prices in a way that is not known",
        ),
        ("kyma/thinker", "taken without: the prices of standard above 128000, which do not say that of reasoning"),
        ("broken/negative", "input_cost_per_token: must not be negative"),
        ("broken/text", "input_cost_per_token: a number is expected"),
        ("broken/list", "an object is expected"),
        ("fallback_generalizations", "litellm_provider: is missing"),
        ("gemini/gemini-2.5-pro", "taken without: google_maps_grounding_cost_per_query"),
        ("gemini/gemini-2.5-flash", "taken without: search_free_requests"),
        ("mistral/mistral-ocr-latest", "taken without: annotation_cost_per_page"),
    ],
)
def test_what_is_not_taken_says_why(sample: PriceFile, entry: str, why: str) -> None:
    assert whys(sample)[entry] == [why]


def test_literals_keep_every_digit_they_have(book: PriceBook) -> None:
    usage = Metered("novita", "noisy-embedding", {"input": 3, "output": 1}, {})
    assert cost(book, usage) == Decimal("0.000000150130000000000012")
    assert str(cost(book, Metered("novita", "noisy-embedding", {"output": 1}, {}))) == "1.3E-10"


def test_an_explicit_zero_is_a_price(book: PriceBook) -> None:
    assert cost(book, Metered("ollama", "llama3", {"input": 1000, "output": 1000}, {})) == 0


def test_tiers_have_their_own_prices_and_standard_ones_for_kinds_that_they_do_not_price(book: PriceBook) -> None:
    tokens = {"input": 1000, "output": 100}
    assert cost(book, Metered("openai", "gpt-4o", tokens, {})) == Decimal("0.0035")
    assert cost(book, Metered("openai", "gpt-4o", tokens, {}, "batch")) == Decimal("0.00175")
    assert cost(book, Metered("openai", "gpt-4o", tokens, {}, "priority")) == Decimal("0.00595")
    cached = Metered("openai", "gpt-4o", {"cache_read": 10}, {}, "batch")
    assert cost(book, cached) == Decimal("0.0000125")
    flex = Metered("openai", "gpt-4o", tokens, {}, "flex")
    assert reason(book, flex) == "openai gpt-4o has no price for input in tier flex: the tier has no price"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (200_000, Decimal("0.26")),  # 200,000 x 0.00000125 + 1,000 x 0.00001
        (200_001, Decimal("0.5150025")),  # 200,001 x 0.0000025 + 1,000 x 0.000015
    ],
)
def test_above_200k_means_more_than_200000_and_reprices_the_output_too(
    book: PriceBook, prompt: int, expected: Decimal
) -> None:
    assert cost(book, Metered("google", "gemini-2.5-pro", {"input": prompt, "output": 1000}, {})) == expected


def test_a_batch_has_its_own_threshold_prices(book: PriceBook) -> None:
    usage = Metered("google", "gemini-2.5-pro", {"input": 300_000, "output": 1000}, {}, "batch")
    assert cost(book, usage) == Decimal("0.3825")


def test_a_tier_without_prices_above_the_threshold_has_none_there(book: PriceBook) -> None:
    short = Metered("openai", "gpt-5.4", {"input": 272_000}, {}, "priority")
    long = Metered("openai", "gpt-5.4", {"input": 272_001}, {}, "priority")
    assert cost(book, short) == Decimal("1.36")
    assert reason(book, long) == "openai gpt-5.4 has no price for input in tier priority at this prompt length"


def test_a_kind_with_a_price_of_its_own_is_not_billed_as_another_where_the_list_is_silent(book: PriceBook) -> None:
    assert cost(book, Metered("kyma", "thinker", {"input": 1000, "reasoning": 100}, {})) == Decimal("0.0013")
    assert "at this prompt length" in reason(book, Metered("kyma", "thinker", {"input": 128_001}, {}))


def test_ranges_reprice_the_whole_call_and_end_where_the_file_ends(book: PriceBook) -> None:
    at_border = Metered("dashscope", "qwen-plus", {"input": 256_000, "output": 10, "reasoning": 10}, {})
    above = Metered("dashscope", "qwen-plus", {"input": 256_001, "output": 10, "reasoning": 10}, {})
    assert cost(book, at_border) == Decimal("0.102452")
    assert cost(book, above) == Decimal("0.3073572")
    assert "at this prompt length" in reason(book, Metered("dashscope", "qwen-plus", {"input": 1_000_001}, {}))


def test_off_peak_hours_are_utc_and_per_weekday(book: PriceBook) -> None:
    usage = Metered("deepseek", "deepseek-flash", {"input": 1000, "cache_read": 1000, "output": 1000}, {})
    assert cost(book, usage, TUESDAY_NOON) == Decimal("0.000753")
    assert cost(book, usage, TUESDAY_RUSH) == Decimal("0.001506")
    assert cost(book, usage, SUNDAY) == Decimal("0.000753")


def test_regions_and_speed_multiply_tokens_but_no_searches(book: PriceBook) -> None:
    tokens, searches = {"input": 1000}, {"web_searches": Decimal(2)}
    model = ("anthropic", "claude-sonnet-4-5-20250929")
    assert cost(book, Metered(*model, tokens, searches)) == Decimal("0.023")
    both = {"region": "us", "speed": "fast", "weather": "fine"}
    assert cost(book, Metered(*model, tokens, searches, "standard", both)) == Decimal("0.0266")
    assert cost(book, Metered("openai", "gpt-5.4", tokens, {}, "standard", {"region": "eu"})) == Decimal("0.00275")


def test_every_endpoint_but_the_global_one_costs_more(book: PriceBook) -> None:
    def at_region(conditions: dict[str, str]) -> Decimal:
        return cost(book, Metered("vertex_ai", "gemini-3.5-flash", {"input": 1000}, {}, "standard", conditions))

    assert at_region({}) == Decimal("0.0015")
    assert at_region({"region": "global"}) == Decimal("0.0015")
    assert at_region({"region": "europe-west6"}) == Decimal("0.00165")


def test_cache_writes_of_an_hour_cost_more_than_short_ones(book: PriceBook) -> None:
    usage = Metered("anthropic", "claude-sonnet-4-5-20250929", {"cache_write": 1000, "cache_write_1h": 1000}, {})
    assert cost(book, usage) == Decimal("0.00975")


def test_searches_cost_the_same_in_every_tier(book: PriceBook) -> None:
    searches = {"web_searches": Decimal(3)}
    usage = Metered("anthropic", "claude-sonnet-4-5-20250929", {"input": 1000}, searches, "batch")
    assert cost(book, usage) == Decimal("0.0315")


def test_searches_priced_by_context_size_need_the_size(book: PriceBook) -> None:
    searches = {"web_searches": Decimal(1)}
    small = Metered("perplexity", "sonar-pro", {}, searches, "standard", {"search_context_size": "low"})
    assert cost(book, small) == Decimal("0.006")
    unsaid = Metered("perplexity", "sonar-pro", {}, searches)
    assert (
        reason(book, unsaid) == "perplexity sonar-pro has no price for web_searches: it depends on search_context_size"
    )


def test_units_of_other_models_are_read(book: PriceBook) -> None:
    assert cost(book, Metered("openai", "whisper-1", {}, {"seconds": Decimal("12.5")})) == Decimal("0.00125")
    assert cost(book, Metered("mistral", "mistral-ocr-latest", {}, {"pages": Decimal(4)}, "batch")) == Decimal("0.002")
    video = Metered("dashscope", "wan3.0-video", {}, {"seconds": Decimal(5)}, "standard", {"resolution": "720p"})
    assert cost(book, video) == Decimal("0.412565")
    image = Metered("fal_ai", "nano-banana-2", {}, {"images": Decimal(1)}, "standard", {"image_size": "4K"})
    assert cost(book, image) == Decimal("0.16")
    assert cost(book, Metered("fal_ai", "nano-banana-2", {}, {"images": Decimal(1)})) == Decimal("0.08")


def test_of_two_keys_of_one_model_the_fuller_one_is_taken(book: PriceBook) -> None:
    usage = Metered("deepseek", "deepseek-chat", {"input": 100, "cache_write": 100}, {})
    assert cost(book, usage) == Decimal("0.000028")


def test_importing_the_same_file_again_changes_nothing(sample: PriceFile, book: PriceBook) -> None:
    later = read_litellm_file(SAMPLE.read_bytes(), datetime(2026, 6, 1, tzinfo=UTC))
    preview = diff(book, later.versions)
    assert (preview.new, preview.changed) == ((), ())
    assert len(preview.unchanged) == len(sample.versions)


def test_the_order_of_the_fields_in_the_file_does_not_matter(book: PriceBook) -> None:
    content = json.loads(SAMPLE.read_bytes())
    turned = {key: _turned(entry) for key, entry in reversed(content.items())}
    preview = diff(book, read_litellm_file(json.dumps(turned).encode(), VALID_FROM).versions)
    assert (preview.new, preview.changed) == ((), ())
    assert len(preview.unchanged) == 20


def _turned(value: object) -> object:
    """The same JSON with the fields of every object in reverse order."""
    if isinstance(value, dict):
        return {name: _turned(each) for name, each in reversed(value.items())}
    return value


def test_what_was_read_survives_being_stored(sample: PriceFile) -> None:
    for version in sample.versions:
        assert version_from_text(version_to_text(version), "") == version


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[]", "not a JSON object"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a": {"litellm_provider": "x", "input_cost_per_token": NaN}}', "NaN is not a number"),
        (b'{"a": {"litellm_provider": "x", "litellm_provider": "y"}}', "'litellm_provider' is given twice"),
        (b'{"format": "rappen.prices.v1", "prices": []}', "no entry of the file has a litellm_provider"),
        (b'{"a": {"input_cost_per_token": 1e99999999999999999999}}', "beyond every number"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_price_file_is_refused_as_a_whole(data: bytes, why: str) -> None:
    with pytest.raises(PriceFileError, match=why):
        read_litellm_file(data, VALID_FROM)
