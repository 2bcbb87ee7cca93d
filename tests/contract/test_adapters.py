"""Answers of providers, in the shapes of their documentation, to usage events."""

import copy
import importlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rappen_contracts import ContractError, decode, encode
from rappen_contracts.adapters import (
    anthropic,
    cohere,
    deepseek,
    event_ids,
    gemini,
    groq,
    openai,
    openrouter,
    opentelemetry,
)
from rappen_contracts.usage.v1 import TOKEN_KINDS, UsageRecorded

Case = dict[str, Any]
WHO: Any = {"mandate_id": "acme-ag", "user_id": "anna.keller"}
CASES: list[Case] = [
    case
    for path in sorted((Path(__file__).parent / "provider_answers").glob("*.json"))
    for case in json.loads(path.read_text())
]


def _adapter(case: Case) -> Callable[..., list[UsageRecorded]]:
    module, _, function = case["adapter"].partition(".")
    found: Callable[..., list[UsageRecorded]] = getattr(
        importlib.import_module(f"rappen_contracts.adapters.{module}"), function
    )
    return found


def _events(case: Case, answer: object) -> list[dict[str, Any]]:
    events = _adapter(case)(answer, **WHO, **case.get("options", {}))
    return [
        json.loads(event.model_dump_json(exclude_none=True, exclude_defaults=True, exclude={"mandate_id", "user_id"}))
        for event in events
    ]


class Unset:
    """As an SDK marks a field that was not in the answer."""


class _Object(SimpleNamespace):
    """An object of an SDK, in which fields that were not in the answer are marked so."""

    def __getattr__(self, name: str) -> Unset:
        return Unset()


def _objects(value: Any) -> Any:
    """The same answer as an SDK gives it: objects with attributes, of which some are not set."""
    if isinstance(value, dict):
        named = {key: _objects(each) for key, each in value.items() if key.isidentifier()}
        # Free names stay a dictionary, as in the SDKs.
        return _Object(**named) if len(named) == len(value) else dict(value)
    return [_objects(each) for each in value] if isinstance(value, list) else value


def _padded(value: Any) -> Any:
    """The same answer as a newer API gives it: with fields that nobody knows yet, and nulls."""
    if isinstance(value, dict):
        padding = {"field_of_tomorrow": {"tokens": 7}, "another": None, "numbers": [1, "x"]}
        free = {"connectors"}
        return {key: each if key in free else _padded(each) for key, each in value.items()} | padding
    return [_padded(each) for each in value] if isinstance(value, list) else value


each_case = pytest.mark.parametrize("case", CASES, ids=[case["adapter"] + " " + case["name"] for case in CASES])


@each_case
def test_an_answer_becomes_its_events(case: Case) -> None:
    before = copy.deepcopy(case["answer"])
    assert _events(case, case["answer"]) == case["events"]
    assert case["answer"] == before


@each_case
def test_objects_and_unknown_fields_make_no_difference(case: Case) -> None:
    assert _events(case, _padded(case["answer"])) == case["events"]
    if "connectors" not in json.dumps(case["answer"]):
        assert _events(case, _objects(case["answer"])) == case["events"]


@each_case
def test_kinds_are_disjoint_and_add_up(case: Case) -> None:
    for event in case["events"]:
        if "tokens" in event:
            counted = sum(event["tokens"].get(kind, 0) for kind in TOKEN_KINDS)
            assert counted == event["tokens"]["total"]


def test_every_adapter_has_a_case() -> None:
    folder = Path(importlib.import_module("rappen_contracts.adapters").__path__[0])
    shared = {"__init__", "building", "openai_style", "reading"}
    functions = {
        f"{path.stem}.{name}"
        for path in folder.glob("*.py")
        if path.stem not in shared
        for name in importlib.import_module(f"rappen_contracts.adapters.{path.stem}").__all__
    }
    assert functions == {case["adapter"] for case in CASES}


def _code(make: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(ContractError) as refused:
        make()
    return refused.value.code, refused.value.detail


@pytest.mark.parametrize(
    "read",
    [
        lambda: openai.chat({"id": "a", "model": "gpt-5", "usage": None}, **WHO),
        lambda: openai.chat([{"id": "a", "choices": []}, {"id": "a", "choices": []}], **WHO),
        lambda: openai.chat([], **WHO),
        lambda: openai.responses({"id": "a", "status": "completed", "usage": None}, **WHO),
        lambda: openai.realtime({"type": "response.done", "response": {"id": "a", "status": "completed"}}, **WHO),
        lambda: openai.images({}, **WHO),
        lambda: anthropic.messages({"id": "a", "model": "claude"}, **WHO),
        lambda: anthropic.messages([{"type": "ping"}], **WHO),
        lambda: gemini.generate_content([{"candidates": []}], **WHO),
        lambda: cohere.billed({"id": "a", "usage": {"tokens": {"input_tokens": 5}}}, **WHO),
        lambda: groq.chat({"id": "a", "model": "m", "x_groq": {"id": "b"}}, **WHO),
        lambda: openrouter.chat({"usage": {"prompt_tokens": 1, "cost": 0.1, "is_byok": True}}, **WHO),
        lambda: openai.chat({"model": "claude", "usage": {"input_tokens": 5, "output_tokens": 7}}, **WHO),
        lambda: openai.chat({"model": "gpt-5", "usage": {}}, **WHO),
        lambda: anthropic.messages({"model": "gpt-5", "usage": {"prompt_tokens": 5}}, **WHO),
        lambda: anthropic.messages([{"type": "message_delta", "usage": {"service_tier": "standard"}}], **WHO),
        lambda: gemini.generate_content({"usageMetadata": {"input_tokens": 5}}, **WHO),
        lambda: cohere.billed({"billed_units": {"tokens": 5}}, **WHO),
        lambda: opentelemetry.span({"gen_ai.usage.input_tokens": 5, "gen_ai.request.model": "m"}, **WHO),
    ],
)
def test_a_finished_answer_without_its_usage_is_refused_and_not_free(read: Callable[[], object]) -> None:
    assert _code(read)[0] == "MISSING_FIELD"


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing", "cancelling", "failed", "expired"])
def test_what_is_not_finished_sends_nothing(status: str) -> None:
    assert openai.batch({"id": "batch_bz_1", "status": status}, **WHO) == []
    assert openai.responses({"id": "resp_bz_2", "status": status, "usage": None}, **WHO) == []


def test_usage_that_says_zero_is_no_event() -> None:
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert openai.chat({"model": "gpt-5", "usage": usage}, **WHO) == []


CONTRADICTIONS: list[tuple[str, Callable[[], object], str]] = [
    (
        "more is cached than was sent",
        lambda: openai.chat({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 11}}, **WHO),
        "prompt_tokens",
    ),
    (
        "more is read and written than was sent",
        lambda: openai.chat(
            {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 5}}, **WHO
        ),
        "prompt_tokens",
    ),
    (
        "more reasoning than output",
        lambda: openai.responses(
            {"usage": {"output_tokens": 10, "output_tokens_details": {"reasoning_tokens": 11}}}, **WHO
        ),
        "usage.output_tokens",
    ),
    (
        "tokens that nothing names would be given away",
        lambda: openai.chat({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 16}, **WHO),
        "total_tokens",
    ),
    (
        "cached content of a kind that was not sent",
        lambda: openai.realtime(
            {
                "input_tokens": 10,
                "input_token_details": {"cached_tokens": 5, "cached_tokens_details": {"audio_tokens": 5}},
            },
            **WHO,
        ),
        "input_tokens",
    ),
    (
        "hits and misses are not the prompt",
        lambda: deepseek.chat(
            {"prompt_tokens": 10, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 7}, **WHO
        ),
        "prompt_tokens",
    ),
    (
        "a breakdown leaves a model out",
        lambda: groq.chat(
            {
                "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
                "usage_breakdown": {"models": [{"model": "m", "usage": {"prompt_tokens": 10, "completion_tokens": 4}}]},
            },
            **WHO,
        ),
        "usage.total_tokens",
    ),
    (
        "the lifetimes are more than the writes",
        lambda: anthropic.messages(
            {
                "input_tokens": 1,
                "cache_creation_input_tokens": 10,
                "cache_creation": {"ephemeral_5m_input_tokens": 11},
                "output_tokens": 1,
            },
            **WHO,
        ),
        "cache_creation_input_tokens",
    ),
    (
        "nobody says how long the rest is kept",
        lambda: anthropic.messages(
            {
                "input_tokens": 1,
                "cache_creation_input_tokens": 10,
                "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 5},
                "output_tokens": 1,
            },
            **WHO,
        ),
        "cache_creation",
    ),
    (
        "thoughts inside the candidates of an old total",
        lambda: gemini.generate_content(
            {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 9}, **WHO
        ),
        "totalTokenCount",
    ),
    (
        "text and images that are not the input",
        lambda: cohere.billed({"billed_units": {"input_tokens": 9, "text_tokens": 4, "image_tokens": 4}}, **WHO),
        "billed_units.input_tokens",
    ),
    (
        "an input of a span without its cache, unannounced",
        lambda: opentelemetry.span(
            {"gen_ai.usage.input_tokens": 50, "gen_ai.usage.cache_read.input_tokens": 100000}, **WHO
        ),
        "gen_ai.usage.prompt_tokens",
    ),
]


@pytest.mark.parametrize(
    ("read", "field"), [each[1:] for each in CONTRADICTIONS], ids=[each[0] for each in CONTRADICTIONS]
)
def test_numbers_that_contradict_each_other_are_refused(read: Callable[[], object], field: str) -> None:
    code, detail = _code(read)
    assert code == "TOTAL_MISMATCH"
    assert detail.startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (True, "WRONG_TYPE"),
        (1.5, "WRONG_TYPE"),
        (2.0, "WRONG_TYPE"),
        ("12", "WRONG_TYPE"),
        ([1], "WRONG_TYPE"),
        (-1, "NEGATIVE"),
        (2**53, "TOO_LARGE"),
        (float("nan"), "WRONG_TYPE"),
    ],
)
def test_a_count_that_is_none_is_refused_by_its_name(value: object, code: str) -> None:
    refused = _code(lambda: openai.chat({"model": "gpt-5", "usage": {"prompt_tokens": value}}, **WHO))
    assert refused[0] == code
    assert refused[1].startswith("usage.prompt_tokens: ")


@pytest.mark.parametrize(
    "read",
    [
        lambda: openai.chat("usage", **WHO),
        lambda: openai.chat(7, **WHO),
        lambda: openai.chat({"usage": [1, 2]}, **WHO),
        lambda: openai.chat(["chunk"], **WHO),
        lambda: openai.chat({"usage": {"prompt_tokens": 5, "prompt_tokens_details": 5}}, **WHO),
        lambda: openai.responses({"usage": {"input_tokens": 5}, "output": {"type": "web_search_call"}}, **WHO),
        lambda: anthropic.messages({"usage": {"input_tokens": 1, "iterations": "none"}}, **WHO),
        lambda: cohere.billed({"billed_units": {"input_tokens": 1.5}}, **WHO),
        lambda: openrouter.chat({"usage": {"prompt_tokens": 5, "cost": "0.1"}}, **WHO),
        lambda: openrouter.chat({"usage": {"prompt_tokens": 5, "cost": 0.1, "is_byok": "yes"}}, **WHO),
        lambda: gemini.generate_content({"usageMetadata": {"promptTokenCount": 1, "trafficType": 5}}, **WHO),
    ],
)
def test_garbage_is_refused(read: Callable[[], object]) -> None:
    assert _code(read)[0] == "WRONG_TYPE"


@pytest.mark.parametrize(("cost", "code"), [(-0.1, "NEGATIVE"), (float("inf"), "NOT_FINITE"), (1e15, "TOO_LARGE")])
def test_a_cost_that_is_none_is_refused(cost: float, code: str) -> None:
    assert _code(lambda: openrouter.chat({"usage": {"prompt_tokens": 5, "cost": cost}}, **WHO))[0] == code


def test_a_cost_beyond_the_last_decimal_is_rounded_to_it() -> None:
    usage = {"prompt_tokens": 5, "cost": 1.2345678901234567e-10}
    (event,) = openrouter.chat({"model": "m", "usage": usage}, **WHO)
    assert event.cost is not None
    assert format(event.cost.amount, "f") == "0.000000000123456789012346"


USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def test_what_the_caller_knows_comes_before_what_the_answer_says() -> None:
    (event,) = openai.chat(
        {"id": "a", "model": "gpt-5", "service_tier": "default", "usage": USAGE},
        **WHO,
        provider="azure",
        model="eu/gpt-5",
        service_tier="priority",
        response_id="mine",
        conditions={"region": "eu"},
        quantities={"sessions": "1"},
        feature_code="chat",
        metadata={"team": "a"},
    )
    assert (event.provider, event.model, event.service_tier, event.response_id) == (
        "azure",
        "eu/gpt-5",
        "priority",
        "mine",
    )
    assert (event.conditions, event.feature_code, event.metadata) == ({"region": "eu"}, "chat", {"team": "a"})
    assert {name: str(number) for name, number in (event.quantities or {}).items()} == {"sessions": "1"}


def test_what_concerns_the_whole_answer_goes_with_its_first_event() -> None:
    iterations = [
        {"type": "message", "input_tokens": 5, "output_tokens": 6},
        {"type": "advisor_message", "model": "claude-opus", "input_tokens": 7, "output_tokens": 8},
    ]
    events = anthropic.messages(
        {
            "id": "msg",
            "model": "claude-sonnet",
            "usage": {"input_tokens": 5, "output_tokens": 6, "iterations": iterations},
        },
        **WHO,
        hold_id="0197c1d2-5555-7abc-8def-0123456789ac",
        processing_time_ms=1200,
        quantities={"sessions": "1"},
        feature_code="chat",
    )
    assert [event.model for event in events] == ["claude-sonnet", "claude-opus"]
    assert [event.response_id for event in events] == ["msg", "msg"]
    assert [event.feature_code for event in events] == ["chat", "chat"]
    for name in ("hold_id", "processing_time_ms", "quantities"):
        assert [getattr(event, name) is not None for event in events] == [True, False]


def test_faults_of_the_callers_fields_have_the_codes_of_the_contract() -> None:
    assert _code(lambda: openai.chat(USAGE, **WHO)) == ("MISSING_FIELD", "data: ai usage needs provider and model")
    code, detail = _code(lambda: openai.chat(USAGE, mandate_id="a/b", user_id="u", model="gpt-5"))
    assert (code, detail.partition(":")[0]) == ("BAD_ID", "mandate_id")
    with pytest.raises(TypeError, match="'tokens'"):
        openai.chat(USAGE, **WHO, tokens={"input": 1})


def test_ids_of_events_are_those_of_the_answer() -> None:
    case = next(case for case in CASES if "advisor" in case["name"])
    first, again = (anthropic.messages(case["answer"], **WHO) for _ in range(2))
    assert event_ids(first) == event_ids(again)
    assert len(set(event_ids(first))) == 3
    other = anthropic.messages(case["answer"] | {"id": "msg_other"}, **WHO)
    assert not set(event_ids(first)) & set(event_ids(other))
    assert str(event_ids(first)[0]) == "c7d77814-fffb-52f2-bc06-863019d571fe"


def test_an_answer_without_an_id_has_new_ones_each_time() -> None:
    events = openai.chat(USAGE, **WHO, model="gpt-5")
    assert event_ids(events) != event_ids(events)


def test_an_event_of_an_adapter_can_be_sent_and_read() -> None:
    now = datetime(2026, 5, 4, tzinfo=UTC)
    for case in CASES:
        events = _adapter(case)(case["answer"], **WHO, **case.get("options", {}))
        for event_id, event in zip(event_ids(events), events, strict=True):
            record = encode(
                event, type="ch.rappen.usage.recorded.v1", id=event_id, source="/test", time=now, key=event.mandate_id
            )
            assert decode(record.headers, record.value, now=now).data == event
