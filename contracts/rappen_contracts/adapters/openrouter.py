"""OpenRouter: chat and responses.

Which number contains which (openrouter.ai on usage accounting):

- Counts are those of the model's own tokenizer in OpenAI's form: `prompt_tokens` contains cached and written tokens,
  `completion_tokens` contains reasoning, whatever the provider behind it does.
- `cost` is what was charged in credits, of which one is a US dollar, tools included; it becomes the cost of the event.
- With a key of one's own (`is_byok`) `cost` is the fee alone, and `cost_details.upstream_inference_cost`, which the
  provider charges, comes on top. Without one that number repeats the cost and is not added.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Unpack

from rappen_contracts.adapters.building import Call, EventFields, Tokens, build, served_tier, usage_of
from rappen_contracts.adapters.openai_style import chat_tokens, responses_tokens
from rappen_contracts.adapters.reading import Part, inner, latest
from rappen_contracts.errors import ContractError
from rappen_contracts.types import EXACT
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["chat", "responses"]

_PROVIDER = "openrouter"
_CHAT = ("prompt_tokens", "completion_tokens", "cost")
_RESPONSES = ("input_tokens", "output_tokens", "cost")


def chat(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of chat completions; a list of chunks is one stream."""
    part = latest(answer, "usage")
    usage = usage_of(part, "usage", known=_CHAT)
    return [] if usage is None else _events(part, usage, chat_tokens(usage), fields)


def responses(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of the responses API; an event of a stream stands for the response in it, of a list the last one
    counts."""
    part = inner(answer, "usage", "response")
    usage = usage_of(part, "usage", known=_RESPONSES)
    return [] if usage is None else _events(part, usage, responses_tokens(usage), fields)


def _events(part: Part, usage: Part, tokens: Tokens, fields: EventFields) -> list[UsageRecorded]:
    call = Call(
        tokens,
        quantities={"web_searches": usage.part("server_tool_use").count("web_search_requests")},
        service_tier=served_tier(part.text("service_tier") or usage.text("service_tier")),
        cost=_cost(usage),
    )
    return build(_PROVIDER, [call], fields, model=part.text("model"), response_id=part.text("id"))


def _cost(usage: Part) -> Decimal | None:
    cost = usage.number("cost")
    upstream = usage.part("cost_details").number("upstream_inference_cost")
    if cost is None or not usage.flag("is_byok"):
        return cost
    if upstream is None:
        raise ContractError("MISSING_FIELD", f"{usage.path('cost_details.upstream_inference_cost')}: is required")
    return EXACT.add(cost, upstream)
