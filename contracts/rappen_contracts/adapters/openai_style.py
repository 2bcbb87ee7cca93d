"""The arithmetic of OpenAI's usage objects, which most providers share: parts stand inside their counts."""

from __future__ import annotations

from rappen_contracts.adapters.building import Tokens
from rappen_contracts.adapters.reading import Part, declared, rest

__all__ = ["chat_tokens", "prompt_kinds", "responses_tokens"]


def chat_tokens(usage: Part, *, reasoning_beside: bool = False) -> Tokens:
    """The tokens of `prompt_tokens`, `completion_tokens` and their details; see `_tokens`."""
    return _tokens(
        usage,
        "prompt_tokens",
        usage.part("prompt_tokens_details"),
        "completion_tokens",
        usage.part("completion_tokens_details"),
        reasoning_beside=reasoning_beside,
    )


def responses_tokens(usage: Part) -> Tokens:
    """The tokens of `input_tokens`, `output_tokens` and their details, also in the spelling of audio and realtime."""
    return _tokens(
        usage,
        "input_tokens",
        usage.part("input_tokens_details", "input_token_details"),
        "output_tokens",
        usage.part("output_tokens_details", "output_token_details"),
        reasoning_beside=False,
    )


def _tokens(
    usage: Part, input_name: str, sent: Part, output_name: str, made: Part, *, reasoning_beside: bool
) -> Tokens:
    """Input contains what was read from and written to a cache, audio and images; output contains audio, images and,
    unless it stands beside, reasoning. Where reasoning stands is decided by the total if there is one."""
    prompt, completion = usage.count(input_name), usage.count(output_name)
    total = usage.given("total_tokens")
    reasoning = made.count("reasoning_tokens")
    if total in (prompt + completion, prompt + completion + reasoning):
        reasoning_beside = total != prompt + completion
    audio, images = made.count("audio_tokens"), made.count("image_tokens")
    inside = audio + images + (0 if reasoning_beside else reasoning)
    counts = prompt_kinds(prompt, sent, usage.path(input_name)) | {
        "output": rest(completion, inside, usage.path(output_name)),
        "reasoning": reasoning,
        "audio_output": audio,
        "image_output": images,
    }
    return Tokens(counts, declared(total, sum(counts.values()), usage.path("total_tokens")))


def prompt_kinds(prompt: int, details: Part, path: str) -> dict[str, int]:
    """The kinds of a prompt that contains all of them.

    Cached tokens are of the kinds that `cached_tokens_details` names. The others are text as far as there is text, then
    images, which cost the same where they are not reported separately, then audio. Tokens written to a cache come out
    of what is left, in the same order; those kept longest (12 hours) are the kind of the longer of two writes.
    """
    audio, images = details.count("audio_tokens"), details.count("image_tokens")
    left = {"text": rest(prompt, audio + images, path), "image": images, "audio": audio}
    cached, told = details.count("cached_tokens"), details.part("cached_tokens_details")
    by_content = {content: told.count(f"{content}_tokens") for content in left}
    for content, count in by_content.items():
        left[content] = rest(left[content], count, path)
    found = _take(left, rest(cached, sum(by_content.values()), details.path("cached_tokens")), path)
    written = details.count("cache_write_tokens")
    long = details.part("cache_write_tokens_details").count("ttl_12h_tokens")
    _take(left, written, path)
    return {
        "input": left["text"],
        "cache_read": by_content["text"] + found["text"] + found["image"],
        "cache_write": rest(written, long, details.path("cache_write_tokens")),
        "cache_write_1h": long,
        "image_input": left["image"],
        "image_cache_read": by_content["image"],
        "audio_input": left["audio"],
        "audio_cache_read": by_content["audio"] + found["audio"],
    }


def _take(left: dict[str, int], count: int, path: str) -> dict[str, int]:
    """Takes a count out of the first contents that have some left; what was taken, by content."""
    taken = {}
    for content, there in left.items():
        taken[content] = min(count, there)
        count -= taken[content]
    for content, number in taken.items():
        left[content] -= number
    rest(0, count, path)
    return taken
