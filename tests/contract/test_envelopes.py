"""One event is one event in every envelope: binary, structured with and without headers, and both ways over HTTP."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from rappen_contracts import ContractError, Event, decode
from services.gateway.usage.record_usage import read_batch, read_event

NOW = datetime(2027, 1, 1, tzinfo=UTC)
ENVELOPE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "0197c1d2-aaaa-7abc-8def-0123456789ab",
    "source": "/test",
    "type": "ch.rappen.usage.recorded.v1",
    "time": "2026-05-04T09:12:33Z",
    "datacontenttype": "application/json",
}
DATA: dict[str, Any] = {
    "mandate_id": "m-1",
    "user_id": "u-1",
    "provider": "openai",
    "model": "gpt-5",
    "tokens": {"input": 5},
}
STRUCTURED = b"application/cloudevents+json;charset=UTF-8"

Read = Callable[[dict[str, Any], bytes], "Event | ContractError"]


def _judged(headers: list[tuple[str, bytes | None]], value: bytes) -> Event | ContractError:
    try:
        return decode(headers, value, now=NOW)
    except ContractError as error:
        return error


def _structured_text(attributes: dict[str, Any], data: bytes) -> bytes:
    return json.dumps(attributes).encode()[:-1] + b', "data": ' + data + b"}"


def _binary(attributes: dict[str, Any], data: bytes) -> Event | ContractError:
    """Without a content-type: that of the data stands for it."""
    return _judged([(f"ce_{name}", value.encode()) for name, value in attributes.items()], data)


def _structured(attributes: dict[str, Any], data: bytes) -> Event | ContractError:
    return _judged([("content-type", STRUCTURED)], _structured_text(attributes, data))


def _bare(attributes: dict[str, Any], data: bytes) -> Event | ContractError:
    return _judged([], _structured_text(attributes, data))


def _encoded(attributes: dict[str, Any], data: bytes) -> Event | ContractError:
    text = json.dumps(attributes | {"data_base64": base64.b64encode(data).decode()})
    return _judged([("content-type", STRUCTURED)], text.encode())


def _single(attributes: dict[str, Any], data: bytes) -> Event | ContractError:
    return read_event(_structured_text(attributes, data), now=NOW)[0]


def _batch(attributes: dict[str, Any], data: bytes) -> Event | ContractError:
    return read_batch(b"[" + _structured_text(attributes, data) + b"]", now=NOW)[0]


READS = [_binary, _structured, _bare, _encoded, _single, _batch]
in_every_mode = pytest.mark.parametrize("read", READS, ids=lambda read: read.__name__.strip("_"))


@in_every_mode
def test_the_same_event_has_the_same_identity_and_digest(read: Read) -> None:
    text = json.dumps(DATA).encode()
    event, other = read(ENVELOPE, text), _binary(ENVELOPE, text)
    assert isinstance(event, Event)
    assert event == other


@in_every_mode
@pytest.mark.parametrize(
    ("time", "code"),
    [
        ("2026-11-21T14:07Z", "BAD_TIME"),
        ("2026-11-21T10:00:00-08:00[America/Los_Angeles]", "BAD_TIME"),
        ("2026-11-21T10:00:00.370582GMT", "BAD_TIME"),
        ("20261121T100000Z", "BAD_TIME"),
        ("2026-11-21T10:00:00+0100", "BAD_TIME"),
        ("2026-11-21T10:00:00,5Z", "BAD_TIME"),
        ("2026-11-21T10:00:00 +01:00", "BAD_TIME"),
        ("2026-11-21T10:00:00", "NAIVE_TIME"),
        ("0001-01-01T00:00:00Z", "TIME_OUT_OF_RANGE"),
        ("9999-12-31T23:59:59.999999Z", "TIME_IN_FUTURE"),
    ],
)
def test_a_time_that_is_none_has_one_code(read: Read, time: str, code: str) -> None:
    refused = read(ENVELOPE | {"time": time}, json.dumps(DATA).encode())
    assert isinstance(refused, ContractError)
    assert refused.code == code


@in_every_mode
@pytest.mark.parametrize(
    ("time", "instant"),
    [
        ("2026-11-21 10:00:00Z", datetime(2026, 11, 21, 10, tzinfo=UTC)),
        ("2026-11-21T20:00:00-08:00", datetime(2026, 11, 22, 4, tzinfo=UTC)),
    ],
)
def test_a_time_is_the_same_instant(read: Read, time: str, instant: datetime) -> None:
    event = read(ENVELOPE | {"time": time}, json.dumps(DATA).encode())
    assert isinstance(event, Event)
    assert event.time == instant


@in_every_mode
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (json.dumps(json.dumps(DATA)).encode(), "NOT_AN_OBJECT"),
        (b"null", "NOT_AN_OBJECT"),
        (b"[]", "NOT_AN_OBJECT"),
        (json.dumps(DATA).encode()[:-1] + b', "user_id": "u-2"}', "DUPLICATE_KEY"),
        (json.dumps(DATA | {"tokens": {"prompt_tokens": 100_000}}).encode(), "UNKNOWN_TOKEN_KIND"),
        (json.dumps(DATA | {"tokens": {}}).encode(), "MISSING_FIELD"),
        (json.dumps(DATA | {"cost": {"amount": "1e9", "currency": "CHF"}}).encode(), "TOO_LARGE"),
        (json.dumps(DATA | {"cost": {"amount": "1", "currency": "chf"}}).encode(), "UNKNOWN_CURRENCY"),
    ],
)
def test_data_that_is_refused_has_one_code(read: Read, data: bytes, code: str) -> None:
    refused = read(ENVELOPE, data)
    assert isinstance(refused, ContractError)
    assert refused.code == code


@in_every_mode
@pytest.mark.parametrize(
    ("attribute", "code"),
    [
        ({"datacontenttype": "text/plain"}, "BAD_CONTENT_TYPE"),
        ({"source": "my service"}, "BAD_SOURCE"),
        ({"specversion": "0.3"}, "BAD_SPECVERSION"),
        ({"type": "ch.rappen.usage.recorded.v2"}, "UNKNOWN_VERSION"),
        ({"type": "ch.rappen.usage.imagined.v1"}, "UNKNOWN_TYPE"),
        ({"id": "order-17"}, "BAD_UUID"),
    ],
)
def test_an_attribute_that_is_refused_has_one_code(read: Read, attribute: dict[str, str], code: str) -> None:
    refused = read(ENVELOPE | attribute, json.dumps(DATA).encode())
    assert isinstance(refused, ContractError)
    assert refused.code == code


@in_every_mode
def test_an_attribute_without_meaning_here_does_not_matter(read: Read) -> None:
    event = read(ENVELOPE | {"subject": "m-2", "dataschema": "x"}, json.dumps(DATA).encode())
    assert isinstance(event, Event)
    assert event == _binary(ENVELOPE, json.dumps(DATA).encode())


@pytest.mark.parametrize("value", [b"{}", b"[]", _structured_text(ENVELOPE, json.dumps(DATA).encode())])
def test_a_byte_order_mark_is_no_json_wherever_it_stands(value: bytes) -> None:
    marked = b"\xef\xbb\xbf" + value
    found = [
        _judged([], marked),
        _judged([("content-type", STRUCTURED)], marked),
        _binary(ENVELOPE, marked),
        _encoded(ENVELOPE, marked),
        read_event(marked, now=NOW)[0],
    ]
    assert [error.code for error in found if isinstance(error, ContractError)] == ["NOT_JSON"] * 5
    with pytest.raises(ContractError) as refused:
        read_batch(marked, now=NOW)
    assert refused.value.code == "NOT_JSON"
