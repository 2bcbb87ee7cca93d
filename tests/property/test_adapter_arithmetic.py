"""The adapters against every usage object that a provider's arithmetic allows, and against garbage."""

import copy
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rappen_contracts import CODES, ContractError
from rappen_contracts.adapters import (
    anthropic,
    bedrock,
    cohere,
    deepseek,
    gemini,
    groq,
    mistral,
    openai,
    openrouter,
    opentelemetry,
    xai,
)
from rappen_contracts.usage.v1 import UsageRecorded

WHO: Any = {"mandate_id": "m", "user_id": "u", "model": "some-model"}
ANSWERS = Path(__file__).parents[1] / "contract" / "provider_answers"
CASES = [case for path in sorted(ANSWERS.glob("*.json")) for case in json.loads(path.read_text())]
# Numbers that are no counts: an amount of money or a duration may have a fraction.
AMOUNTS = {"cost", "upstream_inference_cost", "seconds"}

bounded = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Thirteen kinds of the largest are still a count that the contract takes.
counts = st.integers(0, 1000) | st.integers(0, 2**49)


def kinds(*names: str) -> st.SearchStrategy[dict[str, int]]:
    """Counts of disjoint kinds, from which a provider's object is put together by its own arithmetic."""
    return st.fixed_dictionaries(dict.fromkeys(names, counts))


def _counted(events: list[UsageRecorded]) -> dict[str, int]:
    """What the events of one call have counted, and their totals proven."""
    if not events:
        return {}
    (event,) = events
    assert event.tokens is not None
    found = event.tokens.counts()
    assert event.tokens.total == sum(found.values())
    assert min(found.values()) > 0
    return found


def _check(events: list[UsageRecorded], sent: dict[str, int], billed: int) -> None:
    """Each kind as it was, so nothing is counted twice; together what the provider bills, so nothing is left out."""
    expected = {kind: count for kind, count in sent.items() if count}
    assert _counted(events) == expected
    assert sum(expected.values()) == billed


@bounded
@given(
    kinds(
        "input",
        "cache_read",
        "cache_write",
        "cache_write_1h",
        "image_input",
        "audio_input",
        "output",
        "reasoning",
        "audio_output",
    )
)
def test_openai_chat(sent: dict[str, int]) -> None:
    # Text is cached before images and audio are, where nobody tells them apart: without cached ones it is the same.
    prompt = sum(
        sent[kind] for kind in ("input", "cache_read", "cache_write", "cache_write_1h", "image_input", "audio_input")
    )
    completion = sent["output"] + sent["reasoning"] + sent["audio_output"]
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": sent["cache_read"],
            "cache_write_tokens": sent["cache_write"] + sent["cache_write_1h"],
            "cache_write_tokens_details": {
                "ttl_30m_tokens": sent["cache_write"],
                "ttl_12h_tokens": sent["cache_write_1h"],
            },
            "image_tokens": sent["image_input"],
            "audio_tokens": sent["audio_input"],
        },
        "completion_tokens_details": {"reasoning_tokens": sent["reasoning"], "audio_tokens": sent["audio_output"]},
    }
    _check(openai.chat({"usage": usage}, **WHO), sent, usage["total_tokens"])
    _check(openrouter.chat({"usage": usage}, **WHO), sent, usage["total_tokens"])


@bounded
@given(kinds("input", "cache_read", "cache_write", "output", "reasoning"))
def test_openai_responses(sent: dict[str, int]) -> None:
    prompt, completion = sent["input"] + sent["cache_read"] + sent["cache_write"], sent["output"] + sent["reasoning"]
    usage = {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": sent["cache_read"], "cache_write_tokens": sent["cache_write"]},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": sent["reasoning"]},
        "total_tokens": prompt + completion,
    }
    for read in (openai.responses, openai.batch, xai.responses, openrouter.responses):
        _check(read({"usage": usage}, **WHO), sent, usage["total_tokens"])


@bounded
@given(
    kinds(
        "input",
        "cache_read",
        "image_input",
        "image_cache_read",
        "audio_input",
        "audio_cache_read",
        "output",
        "audio_output",
    )
)
def test_openai_realtime(sent: dict[str, int]) -> None:
    text, images, audio = (
        sent[kind] + sent[cached]
        for kind, cached in (
            ("input", "cache_read"),
            ("image_input", "image_cache_read"),
            ("audio_input", "audio_cache_read"),
        )
    )
    usage = {
        "input_tokens": text + images + audio,
        "input_token_details": {
            "text_tokens": text,
            "image_tokens": images,
            "audio_tokens": audio,
            "cached_tokens": sent["cache_read"] + sent["image_cache_read"] + sent["audio_cache_read"],
            "cached_tokens_details": {
                "text_tokens": sent["cache_read"],
                "image_tokens": sent["image_cache_read"],
                "audio_tokens": sent["audio_cache_read"],
            },
        },
        "output_tokens": sent["output"] + sent["audio_output"],
        "output_token_details": {"text_tokens": sent["output"], "audio_tokens": sent["audio_output"]},
        "total_tokens": sum(sent.values()),
    }
    _check(openai.realtime({"response": {"usage": usage}}, **WHO), sent, sum(sent.values()))


@bounded
@given(kinds("input", "image_input", "output", "image_output"))
def test_openai_images(sent: dict[str, int]) -> None:
    usage = {
        "input_tokens": sent["input"] + sent["image_input"],
        "input_tokens_details": {"text_tokens": sent["input"], "image_tokens": sent["image_input"]},
        "output_tokens": sent["output"] + sent["image_output"],
        "output_tokens_details": {"text_tokens": sent["output"], "image_tokens": sent["image_output"]},
        "total_tokens": sum(sent.values()),
    }
    _check(openai.images({"usage": usage}, **WHO), sent, usage["total_tokens"])


@bounded
@given(kinds("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning"))
def test_anthropic(sent: dict[str, int]) -> None:
    written = sent["cache_write"] + sent["cache_write_1h"]
    usage = {
        "input_tokens": sent["input"],
        "cache_read_input_tokens": sent["cache_read"],
        "cache_creation_input_tokens": written,
        "cache_creation": {
            "ephemeral_5m_input_tokens": sent["cache_write"],
            "ephemeral_1h_input_tokens": sent["cache_write_1h"],
        },
        "output_tokens": sent["output"] + sent["reasoning"],
        "output_tokens_details": {"thinking_tokens": sent["reasoning"]},
    }
    _check(anthropic.messages({"usage": usage}, **WHO), sent, sum(sent.values()))
    start = {"type": "message_start", "message": {"usage": usage | {"output_tokens": 0, "output_tokens_details": None}}}
    delta = {
        "type": "message_delta",
        "usage": {name: usage[name] for name in ("output_tokens", "output_tokens_details")},
    }
    _check(anthropic.messages([start, delta], **WHO), sent, sum(sent.values()))


@bounded
@given(
    st.lists(st.tuples(counts, counts, st.sampled_from(["message", "compaction", "advisor_message"])), max_size=5),
    counts,
)
def test_anthropic_bills_every_iteration_once(iterations: list[tuple[int, int, str]], top: int) -> None:
    entries = [
        {
            "type": kind,
            "input_tokens": sent,
            "output_tokens": made,
            "model": "opus" if kind == "advisor_message" else None,
        }
        for sent, made, kind in iterations
    ]
    answers = any(kind == "message" for _, _, kind in iterations)
    usage = {"input_tokens": top, "output_tokens": 0, "iterations": entries}
    events = anthropic.messages({"usage": usage}, **WHO)
    billed = sum(sent + made for sent, made, _ in iterations) + (0 if answers else top)
    assert sum(event.tokens.total or 0 for event in events if event.tokens) == billed
    advised = sum(sent + made for sent, made, kind in iterations if kind == "advisor_message")
    assert sum(event.tokens.total or 0 for event in events if event.tokens and event.model == "opus") == advised


@bounded
@given(
    kinds(
        "input",
        "cache_read",
        "image_input",
        "audio_input",
        "audio_cache_read",
        "tool_input",
        "output",
        "reasoning",
        "audio_output",
        "image_output",
    )
)
def test_gemini(sent: dict[str, int]) -> None:
    text, audio = sent["input"] + sent["cache_read"], sent["audio_input"] + sent["audio_cache_read"]
    made = sent["output"] + sent["audio_output"] + sent["image_output"]
    usage = {
        "promptTokenCount": text + audio + sent["image_input"],
        "promptTokensDetails": _modalities(TEXT=text, AUDIO=audio, IMAGE=sent["image_input"]),
        "cachedContentTokenCount": sent["cache_read"] + sent["audio_cache_read"],
        "cacheTokensDetails": _modalities(TEXT=sent["cache_read"], AUDIO=sent["audio_cache_read"]),
        "candidatesTokenCount": made,
        "candidatesTokensDetails": _modalities(
            TEXT=sent["output"], AUDIO=sent["audio_output"], IMAGE=sent["image_output"]
        ),
        "toolUsePromptTokenCount": sent["tool_input"],
        "thoughtsTokenCount": sent["reasoning"],
        "totalTokenCount": sum(sent.values()),
    }
    _check(gemini.generate_content({"usageMetadata": usage}, **WHO), sent, sum(sent.values()))
    interaction = {
        "total_input_tokens": usage["promptTokenCount"],
        "input_tokens_by_modality": _modalities(TEXT=text, AUDIO=audio, IMAGE=sent["image_input"]),
        "total_cached_tokens": usage["cachedContentTokenCount"],
        "cached_tokens_by_modality": _modalities(TEXT=sent["cache_read"], AUDIO=sent["audio_cache_read"]),
        "total_output_tokens": made,
        "output_tokens_by_modality": usage["candidatesTokensDetails"],
        "total_tool_use_tokens": sent["tool_input"],
        "total_thought_tokens": sent["reasoning"],
        "total_tokens": sum(sent.values()),
    }
    _check(gemini.interactions({"usage": interaction}, **WHO), sent, sum(sent.values()))


def _modalities(**found: int) -> list[dict[str, Any]]:
    return [{"modality": name, "tokenCount": count} for name, count in found.items()]


@bounded
@given(kinds("input", "cache_read", "output", "reasoning"))
def test_deepseek_and_groq(sent: dict[str, int]) -> None:
    prompt = sent["input"] + sent["cache_read"]
    usage = {
        "prompt_tokens": prompt,
        "prompt_tokens_details": {"cached_tokens": sent["cache_read"]},
        "completion_tokens": sent["output"] + sent["reasoning"],
        "completion_tokens_details": {"reasoning_tokens": sent["reasoning"]},
        "total_tokens": sum(sent.values()),
    }
    _check(groq.chat({"usage": usage}, **WHO), sent, usage["total_tokens"])
    split = {"prompt_cache_hit_tokens": sent["cache_read"], "prompt_cache_miss_tokens": sent["input"]}
    _check(deepseek.chat({"usage": usage | split}, **WHO), sent, usage["total_tokens"])


@bounded
@given(kinds("input", "cache_read", "tool_input", "output"))
def test_mistral(sent: dict[str, int]) -> None:
    usage = {
        "prompt_tokens": sent["input"] + sent["cache_read"],
        "prompt_tokens_details": {"cached_tokens": sent["cache_read"]},
        "completion_tokens": sent["output"],
        "connector_tokens": sent["tool_input"],
        "total_tokens": sum(sent.values()),
    }
    _check(mistral.conversation({"usage": usage}, **WHO), sent, usage["total_tokens"])


@bounded
@given(kinds("input", "cache_read", "image_input", "output", "reasoning"), st.booleans())
def test_xai_chat(sent: dict[str, int], inside: bool) -> None:
    usage = {
        "prompt_tokens": sent["input"] + sent["cache_read"] + sent["image_input"],
        "prompt_tokens_details": {"cached_tokens": sent["cache_read"], "image_tokens": sent["image_input"]},
        "completion_tokens": sent["output"] + (sent["reasoning"] if inside else 0),
        "completion_tokens_details": {"reasoning_tokens": sent["reasoning"]},
        "total_tokens": sum(sent.values()),
    }
    _check(xai.chat({"usage": usage}, **WHO), sent, usage["total_tokens"])


@bounded
@given(kinds("input", "image_input", "output"), counts)
def test_cohere(sent: dict[str, int], preamble: int) -> None:
    units = {"input_tokens": sent["input"], "image_tokens": sent["image_input"], "output_tokens": sent["output"]}
    tokens = {"input_tokens": sent["input"] + preamble, "output_tokens": sent["output"]}
    usage = {"billed_units": units, "tokens": tokens, "cached_tokens": preamble}
    _check(cohere.billed({"usage": usage}, **WHO), sent, sum(units.values()))


@bounded
@given(kinds("input", "cache_read", "cache_write", "cache_write_1h", "output"), st.booleans())
def test_bedrock(sent: dict[str, int], with_cache: bool) -> None:
    usage = {
        "inputTokens": sent["input"],
        "cacheReadInputTokens": sent["cache_read"],
        "cacheWriteInputTokens": sent["cache_write"] + sent["cache_write_1h"],
        "cacheDetails": [
            {"ttl": "1h", "inputTokens": sent["cache_write_1h"]},
            {"ttl": "5m", "inputTokens": sent["cache_write"]},
        ],
        "outputTokens": sent["output"],
        "totalTokens": sum(sent.values()) if with_cache else sent["input"] + sent["output"],
    }
    _check(bedrock.converse({"usage": usage}, **WHO), sent, sum(sent.values()))


@bounded
@given(kinds("input", "cache_read", "cache_write", "output", "reasoning"), st.booleans())
def test_opentelemetry(sent: dict[str, int], beside: bool) -> None:
    cache = sent["cache_read"] + sent["cache_write"]
    attributes = {
        "gen_ai.provider.name": "anthropic",
        "gen_ai.usage.input_tokens": sent["input"] + (0 if beside else cache),
        "gen_ai.usage.cache_read.input_tokens": sent["cache_read"],
        "gen_ai.usage.cache_creation.input_tokens": sent["cache_write"],
        "gen_ai.usage.output_tokens": sent["output"] + sent["reasoning"],
        "gen_ai.usage.reasoning.output_tokens": sent["reasoning"],
    }
    _check(opentelemetry.span(attributes, cache_beside_input=beside, **WHO), sent, sum(sent.values()))


def _read(case: dict[str, Any], answer: object) -> list[UsageRecorded]:
    module, _, function = case["adapter"].partition(".")
    adapter: Callable[..., list[UsageRecorded]] = getattr(
        importlib.import_module(f"rappen_contracts.adapters.{module}"), function
    )
    return adapter(answer, **{**WHO, **case.get("options", {})})


def _outcome(case: dict[str, Any], answer: object) -> tuple[list[UsageRecorded], ContractError | None]:
    """The events or the refusal; any other exception fails the test."""
    try:
        return _read(case, answer), None
    except ContractError as error:
        known = error
    assert known.code in CODES
    assert known.code != "UNDECODABLE"
    return [], known


def _numbers(node: Any) -> list[tuple[Any, Any]]:
    """Every place of a document where a count stands: its container and its key."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    return [
        place
        for key in keys
        if key not in AMOUNTS
        for place in ([(node, key)] if type(node[key]) in (int, float) else _numbers(node[key]))
    ]


WITH_NUMBERS = [case for case in CASES if _numbers(case["answer"])]
no_counts = st.sampled_from(
    [True, False, -1, -(2**60), 2**53, 10**30, 0.5, float("nan"), float("inf"), "7", "", b"7", [7], (), {7: 7}]
)


@bounded
@given(st.sampled_from(WITH_NUMBERS), st.data(), no_counts)
def test_what_is_no_count_is_refused_or_was_never_read(case: dict[str, Any], data: st.DataObject, garbage: Any) -> None:
    changed = copy.deepcopy(case["answer"])
    node, key = data.draw(st.sampled_from(_numbers(changed)))
    node[key] = garbage
    events, refused = _outcome(case, changed)
    if refused is None:
        assert events == _read(case, case["answer"])
    else:
        assert "7" not in refused.detail.replace(str(2**53 - 1), "")


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["usage", "prompt_tokens", "meta", "billed_units", "input_tokens", "usageMetadata", "message", "status"]
            ),
            inside,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@bounded
@given(st.sampled_from(CASES), json_values)
def test_whatever_comes_is_an_event_or_a_contract_error(case: dict[str, Any], answer: Any) -> None:
    events, _ = _outcome(case, answer)
    assert all(isinstance(event, UsageRecorded) for event in events)
