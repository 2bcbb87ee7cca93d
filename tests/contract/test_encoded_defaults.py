"""What `encode` leaves out: defaults, and nothing that a reader would miss or take for something else."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic_core import to_json

from rappen_contracts import Event, Record, decode, encode

ROOT = Path(__file__).parents[2] / "contracts"
SAMPLES = sorted((ROOT / "samples").glob("*/v*/*.json"))
NOW = datetime(2026, 6, 1, tzinfo=UTC)
ID = UUID("0197c1d2-aaaa-7abc-8def-0123456789ab")
USAGE = "ch.rappen.usage.recorded.v1"
SUBSCRIPTION = "ch.rappen.subscription.changed.v1"
DIRECTORY = "ch.rappen.directory.changed.v1"

AI: dict[str, Any] = {"mandate_id": "m-1", "user_id": "u-1", "provider": "openai", "model": "gpt-5"}
SUBSCRIBED: dict[str, Any] = {
    "mandate_id": "m-1",
    "subscription_id": str(ID),
    "version": 0,
    "to_state": "ACTIVE",
    "operative": False,
    "plan": {"key": "free", "budget": {"amount": "0", "currency": "CHF"}},
    "cause": "",
}


def _headers(type_: str) -> list[tuple[str, bytes]]:
    attributes = {"specversion": "1.0", "id": str(ID), "source": "/test", "type": type_, "time": "2026-05-04T09:12:33Z"}
    return [(f"ce_{name}", value.encode()) for name, value in attributes.items()]


def _read(data: object, type_: str = USAGE) -> Event:
    return decode(_headers(type_), json.dumps(data).encode(), now=NOW)


def _written(event: Event) -> Record:
    return encode(event.data, type=event.type, id=event.id, source=event.source, time=event.time, key="m-1")


def _round_trip(event: Event) -> Any:
    """What is written of it, which has to be read as the same data with the same digest as the form of before."""
    record = _written(event)
    before = decode(record.headers, to_json(event.data, exclude_none=True), now=NOW)
    assert decode(record.headers, record.value, now=NOW) == before == event
    return json.loads(record.value)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: str(path.relative_to(ROOT / "samples")))
def test_a_sample_is_read_the_same_from_this_form_and_from_the_one_of_before(path: Path) -> None:
    envelope = json.loads(path.read_bytes())
    _round_trip(_read(envelope["data"], envelope["type"]))


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (AI | {"kind": "ai", "tokens": {"input": 1, "output": 0}}, AI | {"tokens": {"input": 1}}),
        (AI | {"tokens": {"input": 0, "total": 0}}, AI | {"tokens": {"total": 0}}),
        (AI | {"tokens": {"input": 3}, "conditions": None}, AI | {"tokens": {"input": 3}}),
        # What is no default stays, however little it is.
        (
            AI | {"cost": {"amount": "0", "currency": "USD"}, "error_count": 0, "description": "", "response_id": ""},
            AI | {"cost": {"amount": "0", "currency": "USD"}, "error_count": 0, "description": "", "response_id": ""},
        ),
        # Empty quantities are absent, other empty objects are there.
        (AI | {"tokens": {"input": 3}, "quantities": {}}, AI | {"tokens": {"input": 3}}),
    ],
)
def test_a_default_is_not_written(given: dict[str, Any], written: dict[str, Any]) -> None:
    assert _round_trip(_read(given)) == written


@pytest.mark.parametrize("field", ["conditions", "metadata"])
def test_an_empty_object_that_is_no_default_is_written(field: str) -> None:
    assert _round_trip(_read(AI | {"tokens": {"input": 3}, field: {}}))[field] == {}


def test_a_kind_that_is_no_default_is_written() -> None:
    storage = {"mandate_id": "m-1", "user_id": "u-1", "kind": "storage", "feature_instance_id": "f", "bytes_in_use": 0}
    assert _round_trip(_read(storage)) == storage


@pytest.mark.parametrize("tokens", [{"input": 0}, {"total": None}, {"reasoning": 0, "tool_input": 0}])
@pytest.mark.parametrize("more", [{}, {"cost": {"amount": "1", "currency": "USD"}}])
def test_tokens_that_count_nothing_do_not_become_absent(tokens: dict[str, Any], more: dict[str, Any]) -> None:
    event = _read(AI | more | {"tokens": tokens})
    assert event.digest != _read(AI | {"cost": {"amount": "1", "currency": "USD"}}).digest
    assert _round_trip(event)["tokens"]


def test_empty_braces_inside_a_text_change_nothing() -> None:
    _round_trip(_read(AI | {"tokens": {"input": 3}, "description": "format {} of {}"}))


def test_defaults_within_a_part_are_not_written_and_what_is_required_is() -> None:
    assert _round_trip(_read(SUBSCRIBED, SUBSCRIPTION)) == SUBSCRIBED
    said = {"budget_per": "mandate", "rollover": False, "max_users": None}
    spelled = SUBSCRIBED | {"plan": SUBSCRIBED["plan"] | said, "budget_due": False}
    assert _round_trip(_read(spelled, SUBSCRIPTION)) == SUBSCRIBED
    other = SUBSCRIBED | {"plan": SUBSCRIBED["plan"] | {"budget_per": "member"}}
    assert _round_trip(_read(other, SUBSCRIPTION)) == other


def test_an_entry_of_the_directory_says_which_kind_it_is() -> None:
    entry = {"kind": "membership", "mandate_id": "m-1", "user_id": "u-1", "roles": []}
    written = _round_trip(_read({"version": 0, "entry": entry, "cause": ""}, DIRECTORY))
    assert written["entry"].items() >= entry.items()
