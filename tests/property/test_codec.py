"""The codec against arbitrary and mutated records, and the laws of round trips, digests, decimals and keys."""

import copy
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Context, Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rappen_contracts import (
    CODES,
    EVENTS,
    ContractError,
    Event,
    decode,
    decode_batch_text,
    decode_structured,
    encode,
    encode_structured,
)
from rappen_contracts.json_text import parse_json
from rappen_contracts.types import CURRENCIES, parse_decimal
from rappen_contracts.usage.v1 import TOKEN_KINDS, UsageRecorded

NOW = datetime(2027, 1, 1, tzinfo=UTC)
ID = UUID("0197c1d2-aaaa-7abc-8def-0123456789ab")
TYPE = "ch.rappen.usage.recorded.v1"
HEADERS = [
    ("ce_specversion", b"1.0"),
    ("ce_id", str(ID).encode()),
    ("ce_source", b"/test"),
    ("ce_type", TYPE.encode()),
    ("ce_time", b"2026-05-04T09:12:33Z"),
    ("content-type", b"application/json"),
]
SAMPLES = [
    json.loads(path.read_bytes())
    for path in sorted((Path(__file__).parents[2] / "contracts" / "samples").glob("*/v*/*.json"))
]
MARK = "S3CRET"

bounded = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# One character of every kind that JSON, UTF-8 or a database may treat in its own way.
letters = 'aZ0 "\\:/\n\t\x1f\x7f\u00e9\u2028\ufeff\uffff\U0001f600'
texts = st.text(letters, max_size=8)
names = st.text(letters, min_size=1, max_size=8)
ids = st.text("aZ09._:@|-", min_size=1, max_size=64)
chances = st.integers(0, 2**32 - 1).map(random.Random)
counts = st.integers(0, 2**53 - 1)
# Every decimal that the contract allows: 14 digits before the point, 24 after it.
decimals = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places), st.integers(0, 10**14 - 1), st.integers(0, 24)
)
# Amounts have 9 digits before the point.
amounts = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places), st.integers(0, 10**9 - 1), st.integers(0, 24)
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def usage(draw: st.DrawFn) -> dict[str, Any]:
    """Data of a valid usage event, with any of its optional fields."""
    tokens = draw(st.dictionaries(st.sampled_from(TOKEN_KINDS), st.integers(0, 10**9), max_size=12))
    if draw(st.booleans()):
        tokens["total"] = sum(tokens.values())
    money = {"amount": format(draw(amounts), "f"), "currency": draw(st.sampled_from(sorted(CURRENCIES)))}
    optional: dict[str, st.SearchStrategy[Any]] = {
        "tokens": st.just(tokens),
        "quantities": st.dictionaries(names, decimals.map(lambda number: format(number, "f")), max_size=4),
        "service_tier": names,
        "conditions": st.dictionaries(texts, texts, max_size=4),
        "response_id": texts,
        "feature_code": names,
        "feature_instance_id": ids,
        "workflow_id": ids,
        "hold_id": st.uuids().map(str),
        "description": texts,
        "processing_time_ms": counts,
        "bytes_in_use": counts,
        "metadata": st.dictionaries(texts, texts, max_size=4),
    }
    data = {"mandate_id": draw(ids), "user_id": draw(ids), "provider": draw(names), "model": draw(names), "cost": money}
    return data | draw(st.fixed_dictionaries({}, optional=optional))


def _decode(data: object) -> Event:
    return decode(HEADERS, json.dumps(data).encode(), now=NOW)


def _judge(read: Callable[[], object]) -> str | None:
    """The code of the refusal, null for none; any other exception fails the test, as does a fault of the reader."""
    refused = _refusal(read)
    if refused is None:
        return None
    assert refused.code in CODES
    assert refused.code != "UNDECODABLE"
    return refused.code


def _refusal(read: Callable[[], object]) -> ContractError | None:
    try:
        read()
    except ContractError as error:
        return error
    return None


header_names = st.sampled_from([name for name, _ in HEADERS] + ["traceparent", "ce_subject", "x"]) | st.text()
header_values = st.none() | st.binary() | st.sampled_from([value for _, value in HEADERS])


@bounded
@given(st.lists(st.tuples(header_names, header_values), max_size=10), st.none() | st.binary())
def test_arbitrary_records_are_refused_with_a_code(
    headers: list[tuple[str, bytes | None]], value: bytes | None
) -> None:
    assert _judge(lambda: decode(headers, value, now=NOW)) is not None


@bounded
@given(st.binary())
@example(b"[" * 2000)
@example(b'[{"id": "' + b"\\ud800" + b'"}]')
def test_arbitrary_bodies_of_batches_are_judged(body: bytes) -> None:
    _judge(lambda: decode_batch_text(body, now=NOW))
    found = decode_batch_text(b"[" + json.dumps(body.hex()).encode() + b"]", now=NOW)
    assert [element.code for element in found if isinstance(element, ContractError)] == ["NOT_AN_OBJECT"]


@bounded
@given(json_values)
def test_arbitrary_json_is_judged_in_both_modes(payload: Any) -> None:
    value = json.dumps(payload).encode()
    assert _judge(lambda: decode(HEADERS, value, now=NOW)) is not None
    assert _judge(lambda: decode([("content-type", b"application/cloudevents+json")], value, now=NOW)) is not None
    assert _judge(lambda: decode_structured(payload, now=NOW)) is not None


@bounded
@given(st.sampled_from(SAMPLES), chances, st.integers(1, 4))
def test_valid_records_with_changed_bytes_are_judged(envelope: Any, chance: random.Random, changes: int) -> None:
    value = bytearray(json.dumps(envelope).encode())
    for _ in range(changes):
        place = chance.randrange(len(value))
        match chance.randrange(4):
            case 0:
                value[place] = chance.randrange(256)
            case 1:
                value.insert(place, chance.choice(b'"\\{}[],:0x\x00\xff \n'))
            case 2:
                del value[place]
            case _:
                part = value[place : place + chance.randrange(40)]
                value[place:place] = part
    _judge(lambda: decode([("content-type", b"application/cloudevents+json")], bytes(value), now=NOW))


def _places(node: Any) -> list[tuple[Any, Any]]:
    """Every place of a document where a value can be exchanged: its container and its key."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    return [place for key in keys for place in ((node, key), *_places(node[key]))]


@bounded
@given(st.sampled_from(SAMPLES), chances, json_values)
def test_valid_records_with_another_value_somewhere_are_judged(
    envelope: Any, chance: random.Random, other: Any
) -> None:
    changed = copy.deepcopy(envelope)
    node, key = chance.choice(_places(changed))
    node[key] = other
    _judge(lambda: decode([("content-type", b"application/cloudevents+json")], json.dumps(changed).encode(), now=NOW))
    _judge(lambda: decode_structured(changed, now=NOW))


@bounded
@given(st.sampled_from(SAMPLES), chances, st.sampled_from([MARK, f"{MARK}/", f"{MARK}\0"]))
def test_no_detail_repeats_a_value_or_a_key_of_the_payload(envelope: Any, chance: random.Random, mark: str) -> None:
    changed = copy.deepcopy(envelope)
    node, key = chance.choice(_places(changed))
    node[key] = chance.choice([mark, [mark], {mark: mark}, {mark: 1, "kind": mark}])
    refused = _refusal(lambda: decode_structured(changed, now=NOW))
    if refused is not None:
        assert MARK not in f"{refused} {refused.detail} {refused.__cause__!r}"


@bounded
@given(usage())
def test_what_is_written_is_read_as_it_was(data: dict[str, Any]) -> None:
    model = UsageRecorded.model_validate(data)
    at = datetime(2026, 5, 4, 9, 12, 33, 482113, UTC)
    record = encode(model, type=TYPE, id=ID, source="/test", time=at, key=model.mandate_id)
    event = decode(record.headers, record.value, now=NOW)
    assert (event.id, event.type, event.source, event.time, event.data) == (ID, TYPE, "/test", at, model)
    assert event.digest == _decode(data).digest
    assert decode_structured(json.loads(json.dumps(encode_structured(event))), now=NOW) == event


def _respelled(number: Decimal, chance: random.Random) -> str:
    """The same number in another notation."""
    zeros = chance.randrange(4)
    plain = format(number, "f")
    match chance.randrange(4):
        case 0:
            return f"+00{plain}"
        case 1:
            return plain + ("0" * zeros if "." in plain else "." + "0" * (zeros + 1))
        case 2:
            sign, digits, exponent = number.as_tuple()
            return f"{'-' if sign else ''}{int(''.join(map(str, digits)))}E{exponent}"
        case _:
            return f"{number.normalize(Context(prec=60)):e}"


def _respell(data: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """The same event as another producer would spell it: order, numbers, nulls, defaults, unknown fields."""

    def shuffled(entries: dict[str, Any]) -> dict[str, Any]:
        pairs = list(entries.items())
        chance.shuffle(pairs)
        return dict(pairs)

    absent = {name: None for name in ("description", "metadata", "hold_id", "bytes_sent") if name not in data}
    spelled = absent | {"kind": "ai", "unknown": {"a": [1.0, None]}} | copy.deepcopy(data)
    spelled["cost"] = shuffled({**data["cost"], "amount": _respelled(Decimal(data["cost"]["amount"]), chance), "x": 1})
    # Empty tokens count as absent, those that say zero do not.
    if data.get("tokens"):
        spelled["tokens"] = shuffled({**dict.fromkeys(TOKEN_KINDS, 0), "provider_total": None, **data["tokens"]})
    if "quantities" in data:
        numbers = {name: _respelled(Decimal(text), chance) for name, text in data["quantities"].items()}
        spelled["quantities"] = shuffled(numbers)
    for name in ("metadata", "conditions"):
        if spelled.get(name):
            spelled[name] = shuffled(spelled[name])
    if data.get("hold_id"):
        spelled["hold_id"] = "{" + data["hold_id"].upper() + "}"
    return shuffled(spelled)


@bounded
@given(usage(), chances, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_the_digest_does_not_depend_on_the_spelling(
    data: dict[str, Any], chance: random.Random, indent: int | str | None, ascii_only: bool
) -> None:
    text = json.dumps(_respell(data, chance), indent=indent, ensure_ascii=ascii_only)
    assert decode(HEADERS, text.encode(), now=NOW).digest == _decode(data).digest


@bounded
@given(usage(), usage())
def test_the_digest_is_equal_exactly_where_the_data_is(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = _decode(one), _decode(other)
    assert (first.digest == second.digest) == (first.data == second.data)


@bounded
@given(usage(), chances)
def test_one_changed_value_changes_the_digest(data: dict[str, Any], chance: random.Random) -> None:
    changed = copy.deepcopy(data)
    places = [place for place in _places(changed) if isinstance(place[0][place[1]], str | int)]
    node, key = chance.choice(places)
    value = node[key]
    node[key] = value + 1 if isinstance(value, int) else value + "1"
    try:
        event = _decode(changed)
    except ContractError:
        # The change broke a rule (a total, a length, a currency): refused is not billed.
        return
    before = _decode(data)
    assert (event.digest != before.digest) == (event.data != before.data)


@bounded
@given(amounts, chances)
def test_decimals_are_exact_in_every_notation(number: Decimal, chance: random.Random) -> None:
    for _ in range(4):
        text = _respelled(number, chance)
        assert parse_decimal(text) == number
        cost = {"amount": text, "currency": "CHF"}
        read = _decode({"mandate_id": "m", "user_id": "u", "provider": "p", "model": "m", "cost": cost}).data
        assert isinstance(read, UsageRecorded)
        assert read.cost is not None
        assert Decimal(json.loads(read.model_dump_json())["cost"]["amount"]) == number


@bounded
@given(st.text(st.sampled_from("0123456789+-.eE_ \u0661\uff19naifNI"), max_size=12))
def test_a_decimal_is_ascii_digits_with_sign_point_and_exponent_or_refused(text: str) -> None:
    mantissa, _, exponent = text.lower().partition("e")
    whole, point, fraction = mantissa.lstrip("+-").partition(".")
    digits = [whole, *([fraction] if point else []), *([exponent.lstrip("+-")] if "e" in text.lower() else [])]
    signs = max(len(part) - len(part.lstrip("+-")) for part in (mantissa, exponent)) <= 1
    well_formed = signs and all(part.isascii() and part.isdigit() for part in digits)
    try:
        number = parse_decimal(text)
    except ValueError as error:
        code = getattr(error, "type", None)
        assert code in (
            {"TOO_LARGE", "TOO_MANY_DECIMALS", "BAD_DECIMAL"} if well_formed else {"BAD_DECIMAL", "NOT_FINITE"}
        )
        if well_formed and code == "BAD_DECIMAL":
            assert len(exponent.lstrip("+-")) > 4
    else:
        assert well_formed
        assert number == Decimal(text)


def _spelled_key(key: str, chance: random.Random) -> str:
    """A key as JSON text, some of its characters as escapes, some white space before its colon."""
    letters = [f"\\u{ord(letter):04x}" if chance.random() < 0.3 else json.dumps(letter)[1:-1] for letter in key]
    return '"' + "".join(letters) + '"' + chance.choice(["", "", "", " ", "\n", "\t\r "])


def _object_text(chance: random.Random, depth: int) -> str:
    keys = [chance.choice(["a", "b", "ab", "", 'a":', '":', "c :"]) for _ in range(chance.randrange(4))]
    values = ["1", '"a"', '"\\":"', '"\\\\"', '" : "', "null"]
    if depth:
        values += [_object_text(chance, depth - 1), f"[{_object_text(chance, depth - 1)},{_object_text(chance, 0)}]"]
    return "{" + ",".join(f"{_spelled_key(key, chance)}:{chance.choice(values)}" for key in keys) + "}"


def _has_duplicate(text: str) -> bool:
    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({key for key, _ in pairs}) < len(pairs)

    json.loads(text, object_pairs_hook=look)
    return found


@settings(bounded, max_examples=500)
@given(chances)
def test_a_duplicate_key_is_found_wherever_and_however_it_is_written(chance: random.Random) -> None:
    text = _object_text(chance, 3)
    if _has_duplicate(text):
        with pytest.raises(ContractError) as refused:
            parse_json(text.encode())
        assert refused.value.code == "DUPLICATE_KEY"
    else:
        assert parse_json(text.encode()) == json.loads(text)


def test_the_samples_to_mutate_are_there_for_every_event() -> None:
    assert {envelope["type"] for envelope in SAMPLES} == set(EVENTS)
