"""Google: Gemini's generateContent, its stream and live sessions; with `provider="vertex_ai"` on Vertex AI.

Which number contains which (types of the `google-genai` package 3.6, which spell the API's camelCase with underscores;
both are read):

- `promptTokenCount` contains `cachedContentTokenCount`; `promptTokensDetails` and `cacheTokensDetails` split them by
  modality. Cached images cost what cached text does, cached audio has a price of its own.
- `candidatesTokenCount` (`responseTokenCount` in live sessions) does not contain `thoughtsTokenCount`, and the prompt
  not `toolUsePromptTokenCount`: `totalTokenCount` is the sum of the four.
- Every chunk of a stream has running totals; the last one counts. Searches are in the chunk that has the metadata.
- Searches are billed by query from Gemini 3 on and by prompt before, however many queries a prompt has led to
  (ai.google.dev, grounding with Google Search). Pages of `urlContextMetadata` are no searches; their text is in
  `toolUsePromptTokenCount`.
- `trafficType` (Vertex AI) and `serviceTier` (Gemini API) say the tier that was served. A batch says neither: give
  `service_tier="batch"`.
"""

from __future__ import annotations

import re
from typing import Final, Literal, Unpack

from rappen_contracts.adapters.building import Call, EventFields, Tokens, build, served_tier, usage_of
from rappen_contracts.adapters.openai_style import prompt_kinds
from rappen_contracts.adapters.reading import Part, declared, latest, rest
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["generate_content"]

_PROVIDER = "google"
_USAGE = ("usageMetadata", "usage_metadata")
_KNOWN = ("promptTokenCount", "prompt_token_count", "totalTokenCount", "total_token_count")
_TIERS: Final = {
    "traffic_type_unspecified": None,
    "on_demand_priority": "priority",
    "on_demand_flex": "flex",
    "on_demand_offpeak": "offpeak",
}
_BILLED_BY_PROMPT = re.compile(r"(?:.*/)?gemini-[12](?![0-9]).*", re.ASCII)


def generate_content(
    answer: object, *, searches_by: Literal["query", "prompt"] | None = None, **fields: Unpack[EventFields]
) -> list[UsageRecorded]:
    """Of an answer, or of a list of the chunks of one stream, or of the messages of one turn of a live session.

    `searches_by` says what one search is for this model, where its name does not tell.
    """
    part = latest(answer, *_USAGE)
    usage = usage_of(part, *_USAGE, known=_KNOWN)
    if usage is None:
        return []
    model = part.text("modelVersion", "model_version")
    named = fields.get("model") or model or ""
    by_prompt = searches_by == "prompt" or (searches_by is None and _BILLED_BY_PROMPT.fullmatch(named) is not None)
    queries = len(_queries(answer if isinstance(answer, (list, tuple)) else [answer]))
    tier = (usage.text("trafficType", "traffic_type") or usage.text("serviceTier", "service_tier") or "").lower()
    call = Call(
        _tokens(usage),
        quantities={"web_searches": min(queries, 1) if by_prompt else queries},
        service_tier=served_tier(_TIERS.get(tier, tier)),
    )
    return build(_PROVIDER, [call], fields, model=model, response_id=part.text("responseId", "response_id"))


def _queries(chunks: list[object] | tuple[object, ...]) -> set[str]:
    """The distinct searches of an answer: a query that is listed twice was made once."""
    return {
        query
        for chunk in map(Part, chunks)
        for holder in (*chunk.parts("candidates"), chunk.part("serverContent", "server_content"))
        for query in holder.part("groundingMetadata", "grounding_metadata").texts(
            "webSearchQueries", "web_search_queries"
        )
        if query
    }


def _tokens(usage: Part) -> Tokens:
    prompt = usage.count("promptTokenCount", "prompt_token_count")
    output_names = (
        *("candidatesTokenCount", "candidates_token_count"),
        *("responseTokenCount", "response_token_count"),
    )
    output = usage.count(*output_names)
    made = _by_modality(usage, "candidates") or _by_modality(usage, "response")
    audio, images = made.get("AUDIO", 0), made.get("IMAGE", 0)
    counts = _prompt(usage, prompt) | {
        "tool_input": usage.count("toolUsePromptTokenCount", "tool_use_prompt_token_count"),
        "output": rest(output, audio + images, usage.path(output_names[0])),
        "reasoning": usage.count("thoughtsTokenCount", "thoughts_token_count"),
        "audio_output": audio,
        "image_output": images,
    }
    total = usage.given("totalTokenCount", "total_token_count")
    return Tokens(counts, declared(total, sum(counts.values()), usage.path("totalTokenCount")))


def _prompt(usage: Part, prompt: int) -> dict[str, int]:
    """The kinds of the prompt. Documents and video are priced as text."""
    sent, cached = _by_modality(usage, "prompt"), _by_modality(usage, "cache")
    details = {
        "audio_tokens": max(sent.get("AUDIO", 0), cached.get("AUDIO", 0)),
        "image_tokens": max(sent.get("IMAGE", 0), cached.get("IMAGE", 0)),
        "cached_tokens": usage.count("cachedContentTokenCount", "cached_content_token_count"),
        "cached_tokens_details": {
            "audio_tokens": cached.get("AUDIO", 0),
            "image_tokens": cached.get("IMAGE", 0),
        },
    }
    kinds = prompt_kinds(prompt, usage.made(details), usage.path("promptTokenCount"))
    return kinds | {"cache_read": kinds["cache_read"] + kinds["image_cache_read"], "image_cache_read": 0}


def _by_modality(usage: Part, whose: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in usage.parts(f"{whose}TokensDetails", f"{whose}_tokens_details"):
        modality = (entry.text("modality") or "TEXT").upper()
        found[modality] = found.get(modality, 0) + entry.count("tokenCount", "token_count")
    return found
