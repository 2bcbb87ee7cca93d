"""Google: Gemini's generateContent, its stream and live sessions, and interactions; on Vertex AI with
`provider="vertex_ai"`.

Which number contains which (types of the `google-genai` package 3.6, which spell the API's camelCase with underscores;
both are read):

- `promptTokenCount` contains `cachedContentTokenCount`; `promptTokensDetails` and `cacheTokensDetails` split them by
  modality. Cached images cost what cached text does, cached audio has a price of its own.
- `candidatesTokenCount` (`responseTokenCount` in live sessions) does not contain `thoughtsTokenCount`, and the prompt
  not `toolUsePromptTokenCount`: `totalTokenCount` is the sum of the four.
- Interactions count the same under other names (`total_input_tokens`, `total_thought_tokens`, ...).
- Every chunk of a stream has running totals; the last one counts. Searches are in the chunk that has the metadata.
- Searches are billed by query from Gemini 3 on and by prompt before, however many queries a prompt has led to
  (ai.google.dev, grounding with Google Search). Pages of `urlContextMetadata` are no searches; their text is in
  `toolUsePromptTokenCount`.
- `trafficType` (Vertex AI) and `serviceTier` (Gemini API) say the tier that was served. A batch says neither: give
  `service_tier="batch"`.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple, Unpack

from rappen_contracts.adapters.building import Call, EventFields, Tokens, build, served_tier, usage_of
from rappen_contracts.adapters.openai_style import prompt_kinds
from rappen_contracts.adapters.reading import Part, declared, inner, latest, rest
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["generate_content", "interactions"]

_PROVIDER = "google"
_USAGE = ("usageMetadata", "usage_metadata")
_TIERS: Final = {
    "traffic_type_unspecified": None,
    "on_demand_priority": "priority",
    "on_demand_flex": "flex",
    "on_demand_offpeak": "offpeak",
}


class _Names(NamedTuple):
    """How one endpoint spells the counts and their splits by modality."""

    prompt: tuple[str, ...]
    cached: tuple[str, ...]
    output: tuple[str, ...]
    thoughts: tuple[str, ...]
    tools: tuple[str, ...]
    total: tuple[str, ...]
    prompt_split: tuple[str, ...]
    cached_split: tuple[str, ...]
    output_split: tuple[str, ...]


_CONTENT: Final = _Names(
    prompt=("promptTokenCount", "prompt_token_count"),
    cached=("cachedContentTokenCount", "cached_content_token_count"),
    output=("candidatesTokenCount", "candidates_token_count", "responseTokenCount", "response_token_count"),
    thoughts=("thoughtsTokenCount", "thoughts_token_count"),
    tools=("toolUsePromptTokenCount", "tool_use_prompt_token_count"),
    total=("totalTokenCount", "total_token_count"),
    prompt_split=("promptTokensDetails", "prompt_tokens_details"),
    cached_split=("cacheTokensDetails", "cache_tokens_details"),
    output_split=(
        *("candidatesTokensDetails", "candidates_tokens_details"),
        *("responseTokensDetails", "response_tokens_details"),
    ),
)
_INTERACTION: Final = _Names(
    prompt=("total_input_tokens",),
    cached=("total_cached_tokens",),
    output=("total_output_tokens",),
    thoughts=("total_thought_tokens",),
    tools=("total_tool_use_tokens",),
    total=("total_tokens",),
    prompt_split=("input_tokens_by_modality",),
    cached_split=("cached_tokens_by_modality",),
    output_split=("output_tokens_by_modality",),
)
_BILLED_BY_PROMPT = re.compile(r"(?:.*/)?gemini-[12](?![0-9]).*", re.ASCII)


def generate_content(
    answer: object, *, searches_by: Literal["query", "prompt"] | None = None, **fields: Unpack[EventFields]
) -> list[UsageRecorded]:
    """The usage events of an answer, or of a list of the chunks of one stream, or of the messages of one turn of a live
    session.

    `searches_by` says what one search is for this model, where its name does not tell.
    """
    part = latest(answer, *_USAGE)
    usage = usage_of(part, *_USAGE, known=(*_CONTENT.prompt, *_CONTENT.total))
    if usage is None:
        return []
    model = part.text("modelVersion", "model_version")
    queries = len(_queries(answer if isinstance(answer, (list, tuple)) else [answer]))
    tier = (usage.text("trafficType", "traffic_type") or usage.text("serviceTier", "service_tier") or "").lower()
    call = Call(
        _tokens(usage, _CONTENT),
        quantities={"web_searches": _searches(queries, searches_by, fields.get("model") or model)},
        service_tier=served_tier(_TIERS.get(tier, tier)),
    )
    return build(_PROVIDER, [call], fields, model=model, response_id=part.text("responseId", "response_id"))


def interactions(
    answer: object, *, searches_by: Literal["query", "prompt"] | None = None, **fields: Unpack[EventFields]
) -> list[UsageRecorded]:
    """The usage events of an interaction; an event of a stream stands for the interaction in it, of a list the last one
    counts."""
    part = inner(answer, "usage", "interaction")
    usage = usage_of(part, "usage", known=(*_INTERACTION.prompt, *_INTERACTION.total))
    if usage is None:
        return []
    model = part.text("model")
    tools = usage.parts("grounding_tool_count")
    queries = sum(tool.count("count") for tool in tools if tool.text("type") == "google_search")
    call = Call(
        _tokens(usage, _INTERACTION),
        quantities={"web_searches": _searches(queries, searches_by, fields.get("model") or model)},
        service_tier=served_tier(part.text("service_tier")),
    )
    return build(_PROVIDER, [call], fields, model=model, response_id=part.text("id"))


def _searches(queries: int, billed_by: Literal["query", "prompt"] | None, model: str | None) -> int:
    """What is billed for the queries of one prompt."""
    by_prompt = billed_by == "prompt" or (billed_by is None and _BILLED_BY_PROMPT.fullmatch(model or "") is not None)
    return min(queries, 1) if by_prompt else queries


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


def _tokens(usage: Part, names: _Names) -> Tokens:
    made = _by_modality(usage, names.output_split)
    audio, images = made.get("AUDIO", 0), made.get("IMAGE", 0)
    counts = _prompt(usage, names) | {
        "tool_input": usage.count(*names.tools),
        "output": rest(usage.count(*names.output), audio + images, usage.path(names.output[0])),
        "reasoning": usage.count(*names.thoughts),
        "audio_output": audio,
        "image_output": images,
    }
    return Tokens(counts, declared(usage.given(*names.total), sum(counts.values()), usage.path(names.total[0])))


def _prompt(usage: Part, names: _Names) -> dict[str, int]:
    """The kinds of the prompt. Documents and video are priced as text."""
    sent, cached = _by_modality(usage, names.prompt_split), _by_modality(usage, names.cached_split)
    details = {
        "audio_tokens": max(sent.get("AUDIO", 0), cached.get("AUDIO", 0)),
        "image_tokens": max(sent.get("IMAGE", 0), cached.get("IMAGE", 0)),
        "cached_tokens": usage.count(*names.cached),
        "cached_tokens_details": {
            "audio_tokens": cached.get("AUDIO", 0),
            "image_tokens": cached.get("IMAGE", 0),
        },
    }
    kinds = prompt_kinds(usage.count(*names.prompt), usage.made(details), usage.path(names.prompt[0]))
    return kinds | {"cache_read": kinds["cache_read"] + kinds["image_cache_read"], "image_cache_read": 0}


def _by_modality(usage: Part, names: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in usage.parts(*names):
        modality = (entry.text("modality") or "TEXT").upper()
        found[modality] = found.get(modality, 0) + entry.count("tokenCount", "token_count", "tokens")
    return found
