"""Rules of the codec that need more than a sample: limits, writing, details, digests."""

import itertools
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from rappen_contracts import EVENTS, ContractError, Event, decode, decode_structured, encode, encode_structured
from rappen_contracts.directory.v1 import DirectoryEntry
from rappen_contracts.registry import RECORD_BYTES_MAX
from rappen_contracts.types import Money, parse_decimal, parse_time
from rappen_contracts.usage.v1 import TOKEN_KINDS, UsageRecorded

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ID = UUID("0197c1d2-aaaa-7abc-8def-0123456789ab")
TYPE = "ch.rappen.usage.recorded.v1"
DATA: dict[str, Any] = {
    "mandate_id": "m-1",
    "user_id": "u-1",
    "provider": "openai",
    "model": "gpt-5",
    "cost": {"amount": "0.5", "currency": "USD"},
}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _headers(**changes: str) -> list[tuple[str, bytes]]:
    attributes = {"specversion": "1.0", "id": str(ID), "source": "/test", "type": TYPE, "time": "2026-05-04T09:12:33Z"}
    headers = [(f"ce_{name}", value.encode()) for name, value in (attributes | changes).items()]
    return [("traceparent", value) if name == "ce_traceparent" else (name, value) for name, value in headers]


def _decode(data: object = DATA, **changes: str) -> Event:
    return decode(_headers(**changes), json.dumps(data).encode(), now=NOW)


def _refusal(data: object = DATA, **changes: str) -> ContractError:
    with pytest.raises(ContractError) as refused:
        _decode(data, **changes)
    return refused.value


def _digest(**changes: Any) -> bytes:
    return _decode(DATA | changes).digest


def test_an_event_may_be_five_minutes_ahead_and_no_more() -> None:
    assert _decode(time="2026-06-01T00:05:00Z").time == NOW + timedelta(minutes=5)
    assert _refusal(time="2026-06-01T00:05:00.000001Z").code == "TIME_IN_FUTURE"


def test_a_record_may_be_256_kib_and_no_more() -> None:
    text = json.dumps(DATA).encode()
    value = text + b" " * (RECORD_BYTES_MAX - len(text))
    assert decode(_headers(), value, now=NOW) == _decode()
    with pytest.raises(ContractError) as refused:
        decode(_headers(), value + b" ", now=NOW)
    assert refused.value.code == "RECORD_TOO_LARGE"
    with pytest.raises(ContractError) as refused:
        decode(_headers(), b"[" * 10_000_000, now=NOW)
    assert refused.value.code == "RECORD_TOO_LARGE"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-05-04T09:12:33.123456789Z", datetime(2026, 5, 4, 9, 12, 33, 123456, UTC)),
        ("2026-05-04T09:12:33.999999999Z", datetime(2026, 5, 4, 9, 12, 33, 999999, UTC)),
        ("2026-05-04T09:12:33.1+02:00", datetime(2026, 5, 4, 7, 12, 33, 100000, UTC)),
        ("2026-05-04t09:12:33z", datetime(2026, 5, 4, 9, 12, 33, 0, UTC)),
        ("2026-05-04 09:12:33-23:59", datetime(2026, 5, 5, 9, 11, 33, 0, UTC)),
        ("2000-01-01T00:00:00Z", datetime(2000, 1, 1, tzinfo=UTC)),
        ("2199-12-31T23:59:59.999999999Z", datetime(2199, 12, 31, 23, 59, 59, 999999, UTC)),
    ],
)
def test_a_time_is_kept_to_the_microsecond_in_utc(text: str, expected: datetime) -> None:
    assert parse_time(text) == expected
    assert parse_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "1999-12-31T23:59:59.999999Z",
        "2000-01-01T00:59:59+01:00",
        "2200-01-01T00:00:00Z",
        "2199-12-31T23:59:59-00:01",
        "9999-12-31T23:59:59.999999Z",
        datetime(1, 1, 1, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_no_time_is_outside_the_years_2000_to_2199(time: object) -> None:
    with pytest.raises(PydanticCustomError) as refused:
        parse_time(time)
    assert refused.value.type == "TIME_OUT_OF_RANGE"


def test_an_event_does_not_happen_before_2000() -> None:
    assert _decode(time="2000-01-01T00:00:00Z").time == datetime(2000, 1, 1, tzinfo=UTC)
    for time in ("1999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"):
        assert _refusal(time=time).code == "TIME_OUT_OF_RANGE"


@pytest.mark.parametrize(
    "text",
    [
        "0197C1D2-AAAA-7ABC-8DEF-0123456789AB",
        "0197c1d2aaaa7abc8def0123456789ab",
        "{0197c1d2-aaaa-7abc-8def-0123456789ab}",
        "urn:uuid:0197c1d2-aaaa-7abc-8def-0123456789ab",
        "URN:UUID:0197C1D2-AAAA-7ABC-8DEF-0123456789AB",
    ],
)
def test_an_id_is_read_in_any_usual_form_and_compared_in_one(text: str) -> None:
    assert _decode(id=text).id == ID
    assert _decode(DATA | {"hold_id": text}).digest == _decode(DATA | {"hold_id": str(ID)}).digest


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (TRACE, True),
        (TRACE.upper(), False),
        (TRACE + "-extra", False),
        ("ff" + TRACE[2:], False),
        ("00-" + "0" * 32 + "-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01", False),
        ("", False),
    ],
)
def test_an_invalid_traceparent_is_dropped(text: str, kept: bool, mode: str) -> None:
    event = _decode(traceparent=text)
    if mode == "structured":
        event = decode_structured(encode_structured(_decode()) | {"traceparent": text}, now=NOW)
    assert event.traceparent == (text if kept else None)
    record = encode(event.data, type=TYPE, id=ID, source="/test", time=event.time, key="m-1", traceparent=text)
    assert ("traceparent" in dict(record.headers)) is kept


def test_a_structured_event_has_the_traceparent_of_its_record_unless_it_has_its_own() -> None:
    headers = [("content-type", b"application/cloudevents+json"), ("traceparent", TRACE.encode())]
    envelope = encode_structured(_decode())
    other = TRACE.replace("0af7", "0af8")
    assert decode(headers, json.dumps(envelope).encode(), now=NOW).traceparent == TRACE
    assert decode(headers, json.dumps(envelope | {"traceparent": other}).encode(), now=NOW).traceparent == other
    assert decode(headers, json.dumps(envelope | {"traceparent": 1}).encode(), now=NOW).traceparent == TRACE


def test_what_is_written_has_the_headers_of_the_contract() -> None:
    event = _decode()
    plus_two = timezone(timedelta(hours=2))
    record = encode(
        event.data, type=TYPE, id=ID, source="/test", time=event.time.astimezone(plus_two), key="m-1", traceparent=TRACE
    )
    assert record.key == b"m-1"
    assert json.loads(record.value) == DATA
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": str(ID).encode(),
        "ce_source": b"/test",
        "ce_type": TYPE.encode(),
        "ce_time": b"2026-05-04T09:12:33.000000Z",
        "ce_subject": b"m-1",
        "content-type": b"application/json",
        "traceparent": TRACE.encode(),
    }


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"type": "ch.rappen.payment.succeeded.v1"}, "UNKNOWN_TYPE"),
        ({"type": "ch.rappen.usage.recorded.v2"}, "UNKNOWN_TYPE"),
        ({"time": datetime(2026, 5, 4)}, "NAIVE_TIME"),  # noqa: DTZ001 - the naive time is the point.
        ({"time": datetime(1970, 1, 1, tzinfo=UTC)}, "TIME_OUT_OF_RANGE"),
        ({"time": datetime.max.replace(tzinfo=UTC)}, "TIME_OUT_OF_RANGE"),
        ({"source": ""}, "BAD_SOURCE"),
        ({"source": "my service"}, "BAD_SOURCE"),
        ({"source": "/s\ud800"}, "BAD_SOURCE"),
        ({"source": "s" * 1025}, "BAD_SOURCE"),
    ],
)
def test_what_no_reader_would_accept_is_not_written(changes: dict[str, Any], code: str) -> None:
    arguments: dict[str, Any] = {"type": TYPE, "id": ID, "source": "/test", "time": NOW, "key": "m-1"}
    with pytest.raises(ContractError) as refused:
        encode(_decode().data, **(arguments | changes))
    assert refused.value.code == code


def test_a_record_that_would_be_too_large_is_not_written() -> None:
    data = UsageRecorded.model_validate(DATA | {"response_id": "x" * RECORD_BYTES_MAX})
    with pytest.raises(ContractError) as refused:
        encode(data, type=TYPE, id=ID, source="/test", time=NOW, key="m-1")
    assert refused.value.code == "RECORD_TOO_LARGE"


@pytest.mark.parametrize(
    "data",
    [
        DATA | {"mandate_id": "S3CRET/"},
        DATA | {"kind": "S3CRET"},
        DATA | {"metadata": {"S3CRET": 1}},
        DATA | {"metadata": {"S3CRET\0": "a"}},
        DATA | {"conditions": {"a": {"S3CRET": 1}}},
        DATA | {"quantities": {"S3CRET": "-1"}},
        DATA | {"cost": {"amount": "S3CRET", "currency": "CHF"}},
        DATA | {"cost": {"amount": "1", "currency": "S3CRET"}},
        DATA | {"tokens": "S3CRET"},
        DATA | {"tokens": {"S3CRET": 1}},
        DATA | {"hold_id": "S3CRET"},
    ],
)
def test_a_detail_names_the_field_and_never_the_payload(data: dict[str, Any]) -> None:
    refused = _refusal(data)
    field = next(name for name in data if data[name] != DATA.get(name))
    assert refused.detail.startswith(field)
    assert "S3CRET" not in f"{refused} {refused.detail}"
    assert refused.__cause__ is None


def test_details_of_attributes_and_tagged_unions_do_not_repeat_them_either() -> None:
    entry = {"version": 1, "cause": "c", "entry": {"kind": "S3CRET", "id": "x"}}
    assert _refusal(entry, type="ch.rappen.directory.changed.v1").detail == "entry: no such kind"
    for name in ("specversion", "id", "type", "time"):
        assert "S3CRET" not in _refusal(**{name: "S3CRET"}).detail
    assert _refusal(id="S3CRET").detail == "id: not a UUID"
    assert _refusal(time="S3CRET").detail.startswith("time: ")


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        ({"mandate_id": "a/b"}, "mandate_id: must be 1 to 64 characters of A-Z a-z 0-9 . _ : @ | -"),
        ({"user_id": None}, "user_id: must be text"),
        ({"provider": ""}, "provider: must have at least 1 characters"),
        ({"description": "x" * 501}, "description: may have at most 500 characters"),
        ({"kind": "training"}, "kind: must be ai or storage"),
        ({"cost": 1}, "cost: must be an object"),
        ({"cost": {"amount": "1"}}, "cost.currency: is required"),
        (
            {"cost": {"amount": "1", "currency": "usd"}},
            "cost.currency: a currency is a code of ISO 4217 in three capital letters, such as CHF or USD",
        ),
        ({"tokens": {"input": 1.5}}, "tokens.input: must be a whole number"),
        ({"tokens": {"input": -1}}, "tokens.input: must be at least 0"),
        ({"bytes_sent": 2**53}, f"bytes_sent: must be at most {2**53 - 1}"),
        (
            {"tokens": {"prompt_tokens": 1}},
            f"tokens.*: no such kind; there are {', '.join(TOKEN_KINDS)}",
        ),
        ({"metadata": dict.fromkeys("abcdefghijklmnopqrstu", "")}, "metadata: may have at most 20 entries"),
    ],
)
def test_a_detail_says_what_is_expected_in_our_own_words(data: dict[str, Any], detail: str) -> None:
    assert _refusal(DATA | data).detail == detail


def test_an_unknown_type_or_version_is_told_what_there_is() -> None:
    refused = _refusal(type="ch.rappen.usage.imagined.v1")
    assert (refused.code, refused.detail) == ("UNKNOWN_TYPE", f"type: no such event; known are {', '.join(EVENTS)}")
    refused = _refusal(type="ch.rappen.usage.recorded.v7")
    assert (refused.code, refused.detail) == ("UNKNOWN_VERSION", f"type: this version is not known; known is {TYPE}")


@pytest.mark.parametrize("value", [b"{", b"\xef\xbb\xbf{}", b'{"a":' + b"9" * 5000 + b"}", b'"\\ud800"', b"[" * 300])
def test_what_is_not_json_is_told_in_our_own_words(value: bytes) -> None:
    with pytest.raises(ContractError) as refused:
        decode(_headers(), value, now=NOW)
    foreign = ("expected", "EOF", "recursion", "hex escape", "out of range")
    assert not any(word in refused.value.detail for word in foreign)


def test_a_detail_is_at_most_a_thousand_characters() -> None:
    assert len(ContractError("CODE", "x" * 5000).detail) == 1000


@pytest.mark.parametrize(
    "same",
    [
        {"cost": {"currency": "USD", "amount": "0.5"}},
        {"cost": {"amount": "0.5000", "currency": "USD"}},
        {"cost": {"amount": "+5e-1", "currency": "USD"}},
        {"cost": {"amount": "0.50000000000000000000000000000", "currency": "USD"}},
        {"cost": {"amount": "0.5", "currency": "USD", "formatted": "$0.50"}},
        {"kind": "ai"},
        {"tokens": None, "quantities": None, "description": None, "hold_id": None, "metadata": None},
        {"unknown": {"field": [1]}},
        {"tokens": {}, "quantities": {}},
    ],
)
def test_the_spelling_does_not_change_the_digest(same: dict[str, Any]) -> None:
    assert _digest(**same) == _digest()


def test_defaults_and_order_inside_objects_do_not_change_the_digest() -> None:
    plain = _digest(tokens={"input": 1, "output": 2}, metadata={"a": "1", "b": "2"}, quantities={"x": "1", "y": "0.0"})
    spelled = _digest(
        quantities={"y": "0", "x": "1.00"},
        metadata={"b": "2", "a": "1"},
        tokens={"output": 2, "input": 1, "reasoning": 0, "total": None},
    )
    assert plain == spelled


@pytest.mark.parametrize(
    "other",
    [
        {"mandate_id": "m-2"},
        {"user_id": "U-1"},
        {"model": "gpt-5 "},
        {"cost": {"amount": "0.500000000000000000000001", "currency": "USD"}},
        {"cost": {"amount": "0.5", "currency": "EUR"}},
        {"tokens": {"input": 1}},
        {"tokens": {"output": 1}},
        {"tokens": {"input": 1, "total": 1}},
        {"quantities": {"images": "1"}},
        {"quantities": {"image": "1"}},
        {"metadata": {"a": "1"}},
        {"metadata": {"a1": ""}},
        {"conditions": {"a": "1"}},
        {"hold_id": str(ID)},
        {"description": ""},
        {"error_count": 0},
    ],
)
def test_any_real_difference_changes_the_digest(other: dict[str, Any]) -> None:
    assert _digest(**other) != _digest()


def test_a_field_added_later_does_not_change_the_digest_of_what_is_stored() -> None:
    """Ledgers keep digests for ever, and a repeat may arrive after the release that added the field."""
    version = EVENTS[TYPE]

    class Later(UsageRecorded):
        region: str = "eu"
        priority: int | None = None

    later = {TYPE: type(version)(version.name, version.major, Later)}
    value = json.dumps(DATA).encode()
    assert decode(_headers(), value, now=NOW, events=later).digest == _digest()


def test_no_two_kinds_of_a_directory_entry_differ_by_their_tag_alone() -> None:
    """The digest leaves defaults out, the tag among them, so the other fields must tell the kinds apart."""
    members: tuple[type[BaseModel], ...] = get_args(get_args(DirectoryEntry)[0])
    assert len(members) >= 6
    for one, other in itertools.combinations(members, 2):
        needs = {name for member in (one, other) for name, field in member.model_fields.items() if field.is_required()}
        assert needs - (one.model_fields.keys() & other.model_fields.keys()), (one, other)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("1E-7", "0.0000001"),
        ("1.3E-10", "0.00000000013"),
        ("-0.00", "0.00"),
        ("0e400", "0"),
        ("1e13", "10000000000000"),
        ("99999999999999.999999999999999999999999", "99999999999999.999999999999999999999999"),
        ("0.1234567890123456789012340000", "0.123456789012345678901234"),
    ],
)
def test_a_decimal_is_kept_exactly(text: str, kept: str) -> None:
    assert format(parse_decimal(text), "f") == kept
    assert parse_decimal(text) == Decimal(text)


def test_a_decimal_built_in_python_obeys_the_same_limits() -> None:
    assert Money(amount=Decimal("1.5"), currency="CHF").model_dump_json() == '{"amount":"1.5","currency":"CHF"}'
    assert parse_decimal(Decimal("1." + "0" * 1000)) == 1
    for number in ("NaN", "Infinity", "1E-25", "1E14", "0." + "1" * 1000):
        with pytest.raises(ValidationError):
            Money(amount=Decimal(number), currency="CHF")
    with pytest.raises(ValidationError):
        Money.model_validate({"amount": 1.5, "currency": "CHF"})


def test_decode_structured_raises_only_contract_errors() -> None:
    payloads: list[Any] = [None, 1, "x", [], {}, {"specversion": 1}, {**encode_structured(_decode()), "data": "x"}]
    for payload in payloads:
        with pytest.raises(ContractError):
            decode_structured(payload, now=NOW)
