"""DeepSeek.

Which number contains which (api-docs.deepseek.com, create chat completion):

- `prompt_tokens` is `prompt_cache_hit_tokens` and `prompt_cache_miss_tokens` together; hits are billed as cache reads.
- `completion_tokens` contains `completion_tokens_details.reasoning_tokens`.
- `total_tokens` is prompt and completion together.
"""

from __future__ import annotations

from typing import Unpack

from rappen_contracts.adapters.building import Call, EventFields, Tokens, build, usage_of
from rappen_contracts.adapters.openai_style import chat_tokens
from rappen_contracts.adapters.reading import Part, latest
from rappen_contracts.errors import ContractError
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["chat"]

_PROVIDER = "deepseek"
_KNOWN = ("prompt_tokens", "completion_tokens", "prompt_cache_hit_tokens")


def chat(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of chat and fill-in-the-middle completions; a list of chunks is one stream."""
    part = latest(answer, "usage")
    usage = usage_of(part, "usage", known=_KNOWN)
    if usage is None:
        return []
    return build(_PROVIDER, [Call(_tokens(usage))], fields, model=part.text("model"), response_id=part.text("id"))


def _tokens(usage: Part) -> Tokens:
    hit, miss = usage.given("prompt_cache_hit_tokens"), usage.given("prompt_cache_miss_tokens")
    prompt = usage.given("prompt_tokens")
    if hit is not None and miss is not None:
        if prompt not in (None, hit + miss):
            raise ContractError("TOTAL_MISMATCH", f"{usage.path('prompt_tokens')}: is not hits and misses together")
        prompt = hit + miss
    details = usage.part("prompt_tokens_details")
    counted = {
        "prompt_tokens": prompt,
        "prompt_tokens_details": {"cached_tokens": details.count("cached_tokens") if hit is None else hit},
        "completion_tokens": usage.count("completion_tokens"),
        "completion_tokens_details": {
            "reasoning_tokens": usage.part("completion_tokens_details").count("reasoning_tokens")
        },
        "total_tokens": usage.given("total_tokens"),
    }
    return chat_tokens(usage.made(counted))
