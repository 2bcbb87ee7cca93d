"""Amazon Bedrock: Converse and ConverseStream. What InvokeModel gives is the model's own: Anthropic's is read by
`anthropic.messages(..., provider="bedrock")`.

Which number contains which (API reference of TokenUsage, user guide on prompt caching):

- `inputTokens` contains neither `cacheReadInputTokens` nor `cacheWriteInputTokens`. `cacheDetails` splits what was
  written by lifetime.
- `outputTokens` contains reasoning, which is not reported separately.
- `totalTokens` may leave the cache out.
"""

from __future__ import annotations

from typing import Unpack

from rappen_contracts.adapters.building import Call, EventFields, Tokens, build, served_tier, usage_of
from rappen_contracts.adapters.reading import Part, declared, inner, rest
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["converse"]

_PROVIDER = "bedrock"
_KNOWN = ("inputTokens", "outputTokens", "totalTokens")


def converse(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of an answer, or of a stream's `metadata` event, alone or among its events. The answer does not
    name its model: give the id that was called, with its region prefix, which is part of the name under which it is
    sold."""
    part = inner(answer, "usage", "metadata")
    usage = usage_of(part, "usage", known=_KNOWN)
    if usage is None:
        return []
    fast = part.part("performanceConfig").text("latency") == "optimized"
    call = Call(
        _tokens(usage),
        service_tier=served_tier(part.part("serviceTier").text("type")),
        conditions={"latency": "optimized"} if fast else {},
    )
    return build(_PROVIDER, [call], fields)


def _tokens(usage: Part) -> Tokens:
    written = usage.count("cacheWriteInputTokens")
    long = sum(each.count("inputTokens") for each in usage.parts("cacheDetails") if each.text("ttl") == "1h")
    counts = {
        "input": usage.count("inputTokens"),
        "cache_read": usage.count("cacheReadInputTokens"),
        "cache_write": rest(written, long, usage.path("cacheWriteInputTokens")),
        "cache_write_1h": long,
        "output": usage.count("outputTokens"),
    }
    return Tokens(counts, declared(usage.given("totalTokens"), sum(counts.values()), usage.path("totalTokens")))
