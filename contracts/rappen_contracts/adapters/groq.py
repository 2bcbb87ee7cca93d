"""Groq.

Which number contains which (types of the `groq` package 1.7, console.groq.com on prompt caching):

- `prompt_tokens` contains `prompt_tokens_details.cached_tokens`, `completion_tokens` contains
  `completion_tokens_details.reasoning_tokens`, `total_tokens` is both counts together.
- Compound systems call several models: `usage_breakdown` has the usage of each, and `usage` is their sum, so each model
  is an event and the sum is none.
- In a stream the usage stands in the last chunk, in older ones in its `x_groq`.
"""

from __future__ import annotations

from typing import Unpack

from rappen_contracts.adapters.building import Call, EventFields, build, served_tier, usage_of
from rappen_contracts.adapters.openai_style import chat_tokens
from rappen_contracts.adapters.reading import Part, declared, latest
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["chat"]

_PROVIDER = "groq"
_KNOWN = ("prompt_tokens", "completion_tokens", "total_tokens")


def chat(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of chat completions; a list of chunks is one stream."""
    part = _with_usage(answer)
    holder = part if part.has("usage") or not part.has("x_groq") else part.part("x_groq")
    usage = usage_of(holder, "usage", known=_KNOWN)
    if usage is None:
        return []
    tier = served_tier(part.text("service_tier"))
    calls = [
        Call(chat_tokens(each.part("usage")), model=each.text("model"), service_tier=tier)
        for each in part.part("usage_breakdown").parts("models")
    ]
    whole = chat_tokens(usage)
    if calls:
        # A model that the breakdown leaves out would be given away.
        declared(whole.total, sum(call.tokens.total for call in calls), usage.path("total_tokens"))
    else:
        calls = [Call(whole, service_tier=tier)]
    return build(_PROVIDER, calls, fields, model=part.text("model"), response_id=part.text("id"))


def _with_usage(answer: object) -> Part:
    part = latest(answer, "usage")
    if part.present or not isinstance(answer, (list, tuple)):
        return part
    chunks = [chunk for chunk in map(Part, answer) if chunk.part("x_groq").has("usage")]
    return chunks[-1] if chunks else part
