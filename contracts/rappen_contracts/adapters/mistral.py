"""Mistral: chat, agents, fill-in-the-middle, embeddings, transcriptions; conversations with connectors; OCR.

Which number contains which (types of the `mistralai` package 3.7, docs.mistral.ai):

- `prompt_tokens` contains the cached tokens, which stand in `prompt_tokens_details.cached_tokens` or, in older
  answers, in `num_cached_tokens`. Reasoning is part of `completion_tokens` and not reported separately.
- In conversations `connector_tokens`, what tools gave to the model, stand beside both: `total_tokens` is the sum of the
  three in every example of the documentation (95 + 209 + 95 = 399).
- `prompt_audio_seconds` is billed in place of the tokens of that audio, which only `total_tokens` contains.
- `connectors` counts calls, each billed at a price of its own beside tokens.
"""

from __future__ import annotations

from typing import Unpack

from rappen_contracts.adapters.building import Call, EventFields, Tokens, build, served_tier, usage_of
from rappen_contracts.adapters.openai_style import prompt_kinds
from rappen_contracts.adapters.reading import Part, declared, inner
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["chat", "conversation", "ocr"]

_PROVIDER = "mistral"
_KNOWN = ("prompt_tokens", "completion_tokens", "total_tokens")


def chat(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of what has `prompt_tokens` and `completion_tokens`: chat, agents, embeddings, transcriptions. A
    list of chunks is one stream; what the SDK's stream wraps in `data` is read."""
    part = inner(answer, "usage", "data")
    usage = usage_of(part, "usage", known=_KNOWN)
    return [] if usage is None else _events(part, usage, fields, part.text("id"))


def conversation(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of a conversation or an agent's run; the model is the one that its last message names. Of the
    events of a stream it is `conversation.response.done` that counts."""
    part = inner(answer, "usage", "data")
    usage = usage_of(part, "usage", known=_KNOWN)
    return [] if usage is None else _events(part, usage, fields, part.text("conversation_id"))


def _events(part: Part, usage: Part, fields: EventFields, response_id: str | None) -> list[UsageRecorded]:
    models = [part.text("model"), *(output.text("model") for output in part.parts("outputs"))]
    model = next((name for name in reversed(models) if name), None)
    call = Call(_tokens(usage), quantities=_quantities(usage), service_tier=served_tier(usage.text("service_tier")))
    return build(_PROVIDER, [call], fields, model=model, response_id=response_id)


def _tokens(usage: Part) -> Tokens:
    details = usage.part("prompt_tokens_details", "prompt_token_details")
    cached = details.given("cached_tokens")
    known = {"cached_tokens": usage.count("num_cached_tokens") if cached is None else cached}
    counts = prompt_kinds(usage.count("prompt_tokens"), usage.made(known), usage.path("prompt_tokens")) | {
        "output": usage.count("completion_tokens"),
        "tool_input": usage.count("connector_tokens"),
    }
    total = usage.given("total_tokens")
    if not usage.count("prompt_audio_seconds"):
        declared(total, sum(counts.values()), usage.path("total_tokens"))
    return Tokens(counts, total)


def _quantities(usage: Part) -> dict[str, int]:
    calls = usage.counts("connectors")
    found = {"web_searches" if name == "web_search" else f"{name}_calls": count for name, count in calls.items()}
    return found | {"seconds": usage.count("prompt_audio_seconds")}


def ocr(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of OCR, billed by the page."""
    part = Part(answer)
    usage = usage_of(part, "usage_info", known=("pages_processed",))
    if usage is None:
        return []
    call = Call(quantities={"pages": usage.count("pages_processed")})
    return build(_PROVIDER, [call], fields, model=part.text("model"))
