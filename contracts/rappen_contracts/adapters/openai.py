"""OpenAI: chat, responses, batches, images, audio, realtime; with `provider=` what speaks the same (Azure and others).

Which number contains which (types of the `openai` package 3.57 and the guides it links to):

- `prompt_tokens` or `input_tokens` contain `cached_tokens`, `cache_write_tokens`, `audio_tokens`, `image_tokens`; the
  guide on prompt caching bills each of the first two at a rate of its own, in place of the input rate. Cached tokens
  are also part of the text, audio and image counts.
- `completion_tokens` or `output_tokens` contain `reasoning_tokens`, `audio_tokens`, `image_tokens`, and predictions
  that were rejected ("still counted in the total completion tokens for purposes of billing").
- `total_tokens` is input and output together.
- `tool_usage.image_gen` and `svg_usage` stand beside `usage` and are billed by the prices of another model.
- A transcription of realtime audio is billed by its own model, beside the response: it is a call of `transcription`.
- Chunks of a stream have no usage but the last, and only if asked for (`stream_options`).
"""

from __future__ import annotations

from typing import Unpack

from rappen_contracts.adapters.building import Call, EventFields, Tokens, build, served_tier, usage_of
from rappen_contracts.adapters.openai_style import chat_tokens, prompt_kinds, responses_tokens
from rappen_contracts.adapters.reading import Part, declared, inner, latest, rest
from rappen_contracts.errors import ContractError
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["batch", "chat", "images", "realtime", "responses", "speech", "transcription"]

_PROVIDER = "openai"
_CHAT = ("prompt_tokens", "completion_tokens", "total_tokens")
_RESPONSES = ("input_tokens", "output_tokens", "total_tokens")


def chat(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of chat completions, legacy completions and embeddings; a list of chunks is one stream."""
    part = latest(answer, "usage")
    usage = usage_of(part, "usage", known=_CHAT)
    if usage is None:
        return []
    call = Call(chat_tokens(usage), service_tier=served_tier(part.text("service_tier")))
    return build(_PROVIDER, [call], fields, model=part.text("model"), response_id=part.text("id"))


def responses(answer: object, *, image_model: str | None = None, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of the responses API; an event of a stream stands for the response in it, of a list the last one
    counts.

    `image_model` is the model of the image generation tool where the answer does not repeat the tool's configuration.
    """
    part = inner(answer, "usage", "response")
    usage = usage_of(part, "usage", known=_RESPONSES)
    if usage is None:
        return []
    searches = _searches(part)
    size = next((tool.text("search_context_size") for tool in part.parts("tools") if _is_search(tool)), None)
    call = Call(
        responses_tokens(usage),
        quantities={"web_searches": searches},
        service_tier=served_tier(part.text("service_tier")),
        conditions={"search_context_size": size} if searches and size else {},
    )
    calls = [call, *_generated_images(part, image_model)]
    return build(_PROVIDER, calls, fields, model=part.text("model"), response_id=part.text("id"))


def _is_search(tool: Part) -> bool:
    return (tool.text("type") or "").startswith("web_search")


def _searches(response: Part) -> int:
    """What the answer says is billable; else the searches among the calls, without the pages that were opened."""
    told = response.part("tool_usage").part("web_search").given("num_requests")
    if told is not None:
        return told
    calls = [item.part("action") for item in response.parts("output") if item.text("type") == "web_search_call"]
    return sum(1 for action in calls if action.text("type") in (None, "search"))


def _generated_images(response: Part, model: str | None) -> list[Call]:
    usage = response.part("tool_usage").part("image_gen")
    tokens = _image_tokens(usage)
    if not tokens.total:
        return []
    configured = (tool.text("model") for tool in response.parts("tools") if tool.text("type") == "image_generation")
    model = model or next(configured, None)
    if model is None:
        raise ContractError(
            "MISSING_FIELD", f"{response.path('tools')}: no model of the image generation tool is named"
        )
    return [Call(tokens, model=model)]


def batch(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of a finished batch as a whole, in the tier `batch`; nothing while it is not finished. Take
    either this or the answers in its output file, which report the same tokens one by one."""
    part = Part(answer)
    usage = usage_of(part, "usage", known=_RESPONSES)
    if usage is None:
        return []
    call = Call(responses_tokens(usage), service_tier="batch")
    return build(_PROVIDER, [call], fields, model=part.text("model"), response_id=part.text("id"))


def images(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of generated and edited images. The answer does not name its model. Without details all output
    is images, since that is what this endpoint makes. A model without tokens (DALL-E) is billed by image, size and
    quality."""
    part = latest(answer, "usage")
    if not part.has("usage") and part.has("data"):
        made: dict[str, str | None] = {"image_size": part.text("size"), "image_quality": part.text("quality")}
        conditions = {name: value for name, value in made.items() if value is not None}
        call = Call(quantities={"images": len(part.parts("data"))}, conditions=conditions)
        return build(_PROVIDER, [call], fields)
    usage = usage_of(part, "usage", known=_RESPONSES)
    calls = [] if usage is None else [Call(_image_tokens(usage))]
    drawn = part.part("svg_usage")
    if drawn.present:
        calls.append(Call(_drawing_tokens(drawn), model=drawn.text("model")))
    return build(_PROVIDER, calls, fields)


def _image_tokens(usage: Part) -> Tokens:
    prompt, output = usage.count("input_tokens"), usage.count("output_tokens")
    made, cached = usage.part("output_tokens_details"), usage.part("cached_tokens_details")
    sent = usage.part("input_tokens_details")
    details = {
        "image_tokens": sent.count("image_tokens"),
        "cached_tokens": usage.count("cached_tokens"),
        "cached_tokens_details": {
            "text_tokens": cached.count("cached_text_tokens"),
            "image_tokens": cached.count("cached_image_tokens"),
        },
    }
    text = made.count("text_tokens")
    counts = prompt_kinds(prompt, usage.made(details), usage.path("input_tokens"))
    counts |= {"output": text, "image_output": rest(output, text, usage.path("output_tokens"))}
    return Tokens(counts, declared(usage.given("total_tokens"), sum(counts.values()), usage.path("total_tokens")))


def _drawing_tokens(usage: Part) -> Tokens:
    """The tokens of the model that writes an SVG; its reasoning is output."""
    made = {"reasoning_tokens": usage.count("reasoning_tokens")}
    names = ("input_tokens", "output_tokens", "total_tokens")
    counted = {name: usage.given(name) for name in names}
    return responses_tokens(usage.made(counted | {"output_tokens_details": made}))


def transcription(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of a transcription, by tokens or by the second; also of the realtime API's
    `...transcription.completed`. The answer does not name its model."""
    usage = usage_of(latest(answer, "usage"), "usage", known=(*_RESPONSES, "seconds"))
    if usage is None:
        return []
    seconds = usage.number("seconds")
    call = Call(responses_tokens(usage)) if seconds is None else Call(quantities={"seconds": seconds})
    return build(_PROVIDER, [call], fields)


def speech(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of the event `speech.audio.done` of spoken text, whose output is audio. The event does not name
    its model."""
    usage = usage_of(latest(answer, "usage"), "usage", known=_RESPONSES)
    if usage is None:
        return []
    found = responses_tokens(usage)
    counts = dict(found.counts)
    counts["audio_output"] += counts.pop("output")
    return build(_PROVIDER, [Call(Tokens(counts, found.provider_total))], fields)


def realtime(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of one response of a session, or its event `response.done`. Each response of a session is
    billed, so each is reported. The response does not name its model."""
    part = Part(answer)
    part = part.part("response") if part.has("response") else part
    usage = usage_of(part, "usage", known=_RESPONSES)
    if usage is None:
        return []
    return build(_PROVIDER, [Call(responses_tokens(usage))], fields, response_id=part.text("id"))
