"""A batch over HTTP: each element judged alone, the body as a whole only where it cannot be read."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from rappen_contracts import ContractError, Event, decode_batch_text

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def _event(number: int, **changes: Any) -> bytes:
    envelope = {
        "specversion": "1.0",
        "id": f"0197c1d2-{number:04x}-7abc-8def-0123456789ab",
        "source": "/test",
        "type": "ch.rappen.usage.recorded.v1",
        "time": "2026-05-04T09:12:33Z",
        "data": {"mandate_id": "m-1", "user_id": "u-1", "provider": "p", "model": "m", "tokens": {"input": number}},
    }
    return json.dumps(envelope | changes).encode()


def _codes(body: bytes) -> list[str | None]:
    found = decode_batch_text(body, now=NOW)
    return [element.code if isinstance(element, ContractError) else None for element in found]


def _refused(body: bytes) -> str:
    with pytest.raises(ContractError) as refused:
        decode_batch_text(body, now=NOW)
    return refused.value.code


def test_every_element_is_an_event_in_its_order() -> None:
    events = decode_batch_text(b"[" + b",".join(map(_event, range(1000))) + b"]", now=NOW)
    assert [event.data.model_dump()["tokens"]["input"] for event in events if isinstance(event, Event)] == [
        *range(1000)
    ]


def test_white_space_around_everything_is_fine() -> None:
    assert _codes(b" \r\n[\t" + _event(1) + b" ,\n" + _event(2) + b" ] \n") == [None, None]


def test_an_empty_array_is_an_empty_batch() -> None:
    assert decode_batch_text(b" [ ] ", now=NOW) == []


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize(
    ("poison", "code"),
    [
        (_event(9)[:-1] + b', "id": "0197c1d2-ffff-7abc-8def-0123456789ab"}', "DUPLICATE_KEY"),
        (_event(9).replace(b'"input": 9', b'"input": 9, "inp\\u0075t": 10'), "DUPLICATE_KEY"),
        (_event(9).replace(b'"input": 9', b'"input": NaN'), "NOT_JSON"),
        (_event(9).replace(b'"input": 9', b'"input": ' + b"9" * 5000), "TOO_LARGE"),
        (_event(9).replace(b'"p"', b'"\\ud800"'), "BAD_TEXT"),
        (_event(9).replace(b'"p"', b'"\\u0000"'), "BAD_TEXT"),
        (_event(9).replace(b'"p"', b'"' + b"p" * 300_000 + b'"'), "RECORD_TOO_LARGE"),
        (_event(9)[:-1] + b', "x": ' + b"[" * 300 + b"]" * 300 + b"}", "TOO_DEEP"),
        (b"17", "NOT_AN_OBJECT"),
        (b"null", "NOT_AN_OBJECT"),
        (b'"event"', "NOT_AN_OBJECT"),
        (b"[]", "NOT_AN_OBJECT"),
        (b"{}", "MISSING_ATTRIBUTE"),
        (_event(9, time="2027-01-01T00:05:01Z"), "TIME_IN_FUTURE"),
    ],
)
def test_a_refused_element_leaves_its_neighbours_alone(poison: bytes, code: str, place: int) -> None:
    elements = [_event(number) for number in range(4)]
    elements.insert(place, poison)
    expected: list[str | None] = [None] * 4
    expected.insert(place, code)
    assert _codes(b"[" + b",".join(elements) + b"]") == expected


def test_a_refused_element_is_named_by_the_id_it_was_sent_with() -> None:
    duplicate = _event(1)[:-1] + b', "time": "x"}'
    bodies = [_event(2, id="order-17"), duplicate, _event(3, id=17), _event(4, id="\ud800" + "x" * 200), b"3"]
    found = decode_batch_text(b"[" + b",".join(bodies) + b"]", now=NOW)
    assert all(isinstance(element, ContractError) for element in found)
    ids = [element.event_id for element in found if isinstance(element, ContractError)]
    assert ids == ["order-17", "0197c1d2-0001-7abc-8def-0123456789ab", "17", "?" + "x" * 99, None]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "NOT_AN_ARRAY"),
        (b"  ", "NOT_AN_ARRAY"),
        (_event(1), "NOT_AN_ARRAY"),
        (b"null", "NOT_AN_ARRAY"),
        (b"\xef\xbb\xbf[]", "NOT_JSON"),
        (b"[\xff]", "NOT_UTF8"),
        (b"[", "NOT_JSON"),
        (b"[" + _event(1), "NOT_JSON"),
        (b"[" + _event(1) + b",]", "NOT_JSON"),
        (b"[," + _event(1) + b"]", "NOT_JSON"),
        (b"[" + _event(1) + _event(2) + b"]", "NOT_JSON"),
        (b"[" + _event(1) + b"]]", "NOT_JSON"),
        (b"[" + _event(1)[:-5] + b"]", "NOT_JSON"),
        (b"[" + b"[" * 100_000, "TOO_DEEP"),
        (b"[" + b",".join([b"1"] * 1001) + b"]", "TOO_MANY_EVENTS"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_as_a_whole(body: bytes, code: str) -> None:
    assert _refused(body) == code


def test_no_detail_repeats_the_body() -> None:
    secret = b"S3CRET"
    for body in (b"[" + secret, b'["' + secret, b'[{"' + secret + b'": 1, "' + secret + b'": 1}]'):
        try:
            details = [
                element.detail for element in decode_batch_text(body, now=NOW) if isinstance(element, ContractError)
            ]
        except ContractError as error:
            details = [error.detail]
        assert details
        assert not any("S3CRET" in detail for detail in details)
