"""xAI: chat (REST and the `xai-sdk`) and responses.

Which number contains which (docs.x.ai on cost tracking and prompt caching; its examples add up to 32 + 9 + 94 = 135):

- Chat: `completion_tokens` does not contain `reasoning_tokens`; `total_tokens` is prompt, completion and reasoning
  together. `prompt_tokens` contains cached, image and audio tokens.
- Responses: as with OpenAI, `output_tokens` contains `reasoning_tokens`.
- The total decides between the two where there is one, so that reasoning is counted once whatever a model does.
- `cost_in_usd_ticks` is "the actual amount billed", tokens and server-side tools together: 10^10 ticks are 1 USD. It
  becomes the cost of the event; 0 is what an SDK has for a missing one, and then the price book decides.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Unpack

from rappen_contracts.adapters.building import Call, EventFields, Tokens, build, served_tier, usage_of
from rappen_contracts.adapters.openai_style import chat_tokens, responses_tokens
from rappen_contracts.adapters.reading import Part, inner, latest
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["chat", "responses"]

_PROVIDER = "xai"
_CHAT = ("prompt_tokens", "completion_tokens", "cost_in_usd_ticks")
_RESPONSES = ("input_tokens", "output_tokens", "cost_in_usd_ticks")
_TICKS = 10  # decimal places of a US dollar


def chat(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of chat completions and of images, whose usage is a cost alone; a list of chunks is one
    stream."""
    part = latest(answer, "usage")
    usage = usage_of(part, "usage", known=_CHAT)
    return [] if usage is None else _events(part, usage, _chat_tokens(usage), fields)


def responses(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of the responses API; an event of a stream stands for the response in it, of a list the last one
    counts."""
    part = inner(answer, "usage", "response")
    usage = usage_of(part, "usage", known=_RESPONSES)
    return [] if usage is None else _events(part, usage, responses_tokens(usage), fields)


def _chat_tokens(usage: Part) -> Tokens:
    """The messages of the SDK have the details beside the counts."""
    names = ("reasoning_tokens", "cached_prompt_text_tokens", "prompt_image_tokens")
    if not usage.has(*names):
        return chat_tokens(usage, reasoning_beside=True)
    reasoning, cached, images = (usage.count(name) for name in names)
    counted = {name: usage.given(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    details: dict[str, object] = {
        "prompt_tokens_details": {"cached_tokens": cached, "image_tokens": images},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    return chat_tokens(usage.made(counted | details), reasoning_beside=True)


def _events(part: Part, usage: Part, tokens: Tokens, fields: EventFields) -> list[UsageRecorded]:
    tools = usage.part("server_side_tool_usage_details")
    ticks = usage.count("cost_in_usd_ticks")
    call = Call(
        tokens,
        quantities={"web_searches": tools.count("web_search_calls"), "x_searches": tools.count("x_search_calls")},
        service_tier=served_tier(part.text("service_tier")),
        cost=Decimal(ticks).scaleb(-_TICKS) if ticks else None,
    )
    return build(_PROVIDER, [call], fields, model=part.text("model"), response_id=part.text("id"))
