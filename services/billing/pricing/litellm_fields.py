"""What the fields of the public LiteLLM price file mean in our terms."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from services.billing.pricing.version import STANDARD

__all__ = [
    "CONDITIONED_FIELDS",
    "CONDITIONED_TOKENS",
    "KNOWN_ENTRY_FACTORS",
    "SEARCH_FIELD",
    "SEARCH_UNIT",
    "SEARCH_UNIT_FIELD",
    "UNIT_FIELDS",
    "looks_like_a_modifier",
    "looks_like_a_price",
    "our_name",
    "token_field",
    "variants",
]

# Several names of the file are routes into one provider's price list; ours is the provider as usage events report it.
_PROVIDERS = {
    "azure_text": "azure",
    "bedrock_converse": "bedrock",
    "cohere_chat": "cohere",
    "fireworks_ai-embedding-models": "fireworks_ai",
    "gemini": "google",
    "text-completion-codestral": "codestral",
    "text-completion-inception": "inception",
    "text-completion-openai": "openai",
}

_TOKEN_STEMS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "output_cost_per_reasoning_token": "reasoning",
    "cache_read_input_token_cost": "cache_read",
    "input_cost_per_token_cache_hit": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "input_cost_per_audio_token": "audio_input",
    "cache_read_input_audio_token_cost": "audio_cache_read",
    "cache_read_input_image_token_cost": "image_cache_read",
    "output_cost_per_audio_token": "audio_output",
    "input_cost_per_image_token": "image_input",
    "output_cost_per_image_token": "image_output",
}

_TIERS = {
    None: STANDARD,
    "batches": "batch",
    "flex": "flex",
    "priority": "priority",
    "ultrafast": "ultrafast",
    "balanced": "balanced",
    "decisions": "decisions",
}

_TOKEN_FIELD = re.compile(
    "(" + "|".join(sorted(_TOKEN_STEMS, key=len, reverse=True)) + r")"
    r"(?:_above_([0-9]{1,6}k|[0-9]{1,9})_tokens)?"
    "(?:_(" + "|".join(name for name in _TIERS if name) + "))?"
)

# Units that one field prices, by field: (unit, tier). Others have several fields, read elsewhere.
UNIT_FIELDS = {
    "input_cost_per_query": ("queries", STANDARD),
    "input_cost_per_request": ("requests", STANDARD),
    "ocr_cost_per_page": ("pages", STANDARD),
    "ocr_cost_per_page_batches": ("pages", "batch"),
    "code_interpreter_cost_per_session": ("sessions", STANDARD),
}

# The end of the field is the value of a condition: the resolution of a video, the size of an image.
CONDITIONED_FIELDS = (
    (re.compile(r"output_cost_per_second_([0-9]{3,4}p|[0-9]{1,2}k)", re.ASCII), "seconds", "resolution"),
    (re.compile(r"output_cost_per_image_([0-9]{3,4}|[0-9.]{1,3}K)", re.ASCII), "images", "image_size"),
)

# Prices of a token kind under a condition.
CONDITIONED_TOKENS = {"explicit_cache_read_input_token_cost": ("cache_read", "cache", "explicit")}

SEARCH_FIELD = "search_context_cost_per_query"
# What one search is; searches are counted by query unless this says otherwise.
SEARCH_UNIT_FIELD = "web_search_billing_unit"
SEARCH_UNIT = "per_query"

# The same price once more in a provider's own units of account.
OTHER_MONEY = frozenset({"input_dbu_cost_per_token", "output_dbu_cost_per_token"})

# Names inside `provider_specific_entry` that multiply token prices, and the condition they stand for.
KNOWN_ENTRY_FACTORS = {"us": ("region", "us"), "eu": ("region", "eu"), "fast": ("speed", "fast")}

_PRICE_WORDS = re.compile(r"cost|price|pricing|multiplier|uplift|free")
# A threshold of another form than so many thousand tokens. Cache writes kept for 1 or 12 hours are kinds of their own.
_MODIFIER_WORDS = re.compile(
    r"pricing|multiplier|uplift|token(?:_cost)?(?:_above_1hr)?_above_(?!1hr|12hr|[0-9]{1,6}k_tokens|[0-9]{1,9}_tokens)"
)
# The end of a token field that only names another service tier.
_OTHER_TIER = re.compile(r"_[a-z]+")


class TokenField(NamedTuple):
    """The token kind a field prices, the threshold (prompt tokens) above which, and the service tier."""

    kind: str
    above: int
    tier: str


def token_field(name: str) -> TokenField | None:
    """What a token price field means; None when it is not one that we know."""
    found = _TOKEN_FIELD.fullmatch(name)
    if not found:
        return None
    stem, above, suffix = found.groups()
    return TokenField(_TOKEN_STEMS[stem], int((above or "0").replace("k", "000")), _TIERS[suffix])


def our_name(key: str, litellm_provider: str) -> tuple[str, str]:
    """Provider and model of an entry: the model is the key less a leading name of its own provider.

    Any other prefix (a region, a route, an image size) stays, because it is part of the name under which it is sold.
    All of Vertex AI is one provider, `vertex_ai`, apart from `google`, the Gemini API.
    """
    family = "vertex_ai" if litellm_provider.startswith("vertex_ai") else litellm_provider
    provider = _PROVIDERS.get(family, family)
    for prefix in (litellm_provider, family, provider):
        if key.startswith(f"{prefix}/"):
            return provider, key.removeprefix(f"{prefix}/")
    return provider, key


def looks_like_a_price(name: str) -> bool:
    """Whether a field says something about money, by its name."""
    return bool(_PRICE_WORDS.search(name)) and not name.startswith("supports_") and name not in OTHER_MONEY


def looks_like_a_modifier(name: str) -> bool:
    """Whether a field that we cannot read would change the price of tokens, so that none must be taken.

    It does when it names a price of tokens that we know, and more than a service tier beside it.
    """
    if _MODIFIER_WORDS.search(name):
        return True
    stems = [stem for stem in _TOKEN_STEMS if name.startswith(f"{stem}_")]
    if stems:
        return not _OTHER_TIER.fullmatch(name.removeprefix(max(stems, key=len)))
    return any(name.endswith(f"_{stem}") for stem in _TOKEN_STEMS)


def variants(name: str, fields: Iterable[str]) -> list[str]:
    """The fields of a unit's price that a field we cannot read is another case of (longer videos, larger images)."""
    return [field for field in fields if name.startswith(f"{field}_") or name.endswith(f"_{field}")]
