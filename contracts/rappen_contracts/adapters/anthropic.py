"""Anthropic: messages; with `provider=` the same on Bedrock (InvokeModel) and Vertex AI.

Which number contains which (types of the `anthropic` package 2.14; the pages on prompt caching, compaction, the advisor
tool and refusals of platform.claude.com):

- `input_tokens` contains neither `cache_read_input_tokens` nor `cache_creation_input_tokens`; the prompt is the three
  together. `cache_creation` splits the last one by lifetime, 5 minutes and 1 hour.
- `output_tokens` contains `output_tokens_details.thinking_tokens`.
- `iterations` is "the per-attempt record of what you're billed". The counts at the top are those of some of its entries
  only: without compactions and advisors, and after a fallback only those of the answer. So where there are
  iterations each one is an event, at the price of the model that it names, and the top is left alone.
- An attempt that was declined before any output is reported and not charged. (Newer pages except categories of
  refusal that they do not list.)
- In a stream `message_start` has the input and `message_delta` running totals, of which the last one counts.
- There is no total. Fetches (`web_fetch_requests`) cost nothing but their tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

from rappen_contracts.adapters.building import Call, EventFields, Tokens, build, served_tier, usage_of
from rappen_contracts.adapters.reading import Part, rest
from rappen_contracts.errors import ContractError
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["messages"]

_PROVIDER = "anthropic"
_KNOWN = ("input_tokens", "output_tokens")
_USAGE = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "output_tokens",
    "output_tokens_details",
    "iterations",
    "server_tool_use",
    "service_tier",
    "inference_geo",
    "speed",
)
# Iterations whose tokens are those at the top.
_ANSWERING = frozenset({"message", "fallback_message"})


def messages(answer: object, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of a message; a list is the events of one stream, from `message_start` on."""
    message, usage, stopped = _of_stream(answer) if isinstance(answer, (list, tuple)) else _of_message(Part(answer))
    model = message.text("model")
    # A call of the answer's own model is named as the caller names that.
    calls = [replace(call, model=None) if call.model == model else call for call in _calls(usage, stopped == "refusal")]
    return build(_PROVIDER, calls, fields, model=model, response_id=message.text("id"))


def _of_message(message: Part) -> tuple[Part, Part, str | None]:
    usage = usage_of(message, "usage", known=_KNOWN)
    # No message has a status; a batch has, and is no message.
    if usage is None:
        raise ContractError("MISSING_FIELD", f"{message.path('usage')}: is required")
    return message, usage, message.text("stop_reason")


def _of_stream(events: list[object] | tuple[object, ...]) -> tuple[Part, Part, str | None]:
    """The message, the newest value of each field of its usage, and why it stopped."""
    message = Part(None)
    newest: dict[str, object] = {}
    stopped: str | None = None
    for event in map(Part, events):
        if event.has("message"):
            message = event.part("message")
        stopped = event.part("delta").text("stop_reason") or stopped
        for usage in (event.part("message").part("usage"), event.part("usage")):
            newest |= {name: value for name in _USAGE if (value := usage.raw(name)) is not None}
    if not newest.keys() & set(_KNOWN):
        raise ContractError("MISSING_FIELD", "usage: no event of the stream has it")
    return message, Part(newest, "usage"), stopped


def _calls(usage: Part, refused: bool) -> list[Call]:
    """A call for each attempt that is billed."""
    attempts = usage.parts("iterations")
    kinds = {attempt.text("type") for attempt in attempts}
    if not kinds & _ANSWERING:
        attempts.insert(0, usage)
    if refused or "fallback_message" in kinds:
        attempts = [attempt for attempt in attempts if not _declined_before_output(attempt)]
    calls = [_call(attempt, usage) for attempt in attempts]
    searches = usage.part("server_tool_use").count("web_search_requests")
    if searches:
        # They belong to the model that answers, not to its advisors.
        answering = [at for at, attempt in enumerate(attempts) if _answers(attempt)] or [0]
        calls = calls or [Call(service_tier=served_tier(usage.text("service_tier")))]
        calls[answering[-1]] = replace(calls[answering[-1]], quantities={"web_searches": searches})
    return calls


def _call(attempt: Part, usage: Part) -> Call:
    place, speed = (usage.text("inference_geo") or "").lower(), usage.text("speed")
    conditions = {"region": place} if place and place != "not_available" else {}
    return Call(
        _tokens(attempt),
        model=attempt.text("model"),
        service_tier=served_tier(usage.text("service_tier")),
        conditions=conditions | ({"speed": speed} if speed and speed != "standard" else {}),
    )


def _answers(attempt: Part) -> bool:
    """Whether this is the answer or a step to it; the counts at the top have no type."""
    return attempt.text("type") in (*_ANSWERING, None)


def _declined_before_output(attempt: Part) -> bool:
    return attempt.text("type") in ("message", None) and not attempt.count("output_tokens")


def _tokens(usage: Part) -> Tokens:
    output = usage.count("output_tokens")
    thinking = usage.part("output_tokens_details").count("thinking_tokens")
    return Tokens(
        {
            "input": usage.count("input_tokens"),
            "cache_read": usage.count("cache_read_input_tokens"),
            **_written(usage),
            "output": rest(output, thinking, usage.path("output_tokens")),
            "reasoning": thinking,
        }
    )


def _written(usage: Part) -> dict[str, int]:
    """What was written to the cache, by lifetime. The total of a stream can be ahead of its split, which only
    `message_start` has: what is ahead has the one lifetime that occurs, 5 minutes (the default) where none does."""
    split = usage.part("cache_creation")
    short, long = split.count("ephemeral_5m_input_tokens"), split.count("ephemeral_1h_input_tokens")
    total = usage.given("cache_creation_input_tokens")
    ahead = 0 if total is None else rest(total, short + long, usage.path("cache_creation_input_tokens"))
    if ahead and short and long:
        raise ContractError(
            "TOTAL_MISMATCH", f"{usage.path('cache_creation')}: does not say how long all of it is kept"
        )
    if long and not short:
        return {"cache_write": 0, "cache_write_1h": long + ahead}
    return {"cache_write": short + ahead, "cache_write_1h": long}
