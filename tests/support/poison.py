"""Records that must be refused, each with the code that it must get, and a reader of the dead-letter topic."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from aiokafka import ConsumerRecord

from rappen_contracts import encode
from tests.support.events import RawRecord, envelope, usage_record, uuid7
from tests.support.facts import paid
from tests.support.topics import read_topic

__all__ = ["DEAD_LETTERS", "DEAR_CURRENCY", "DEAR_RATE", "POISON", "dead_letters"]

DEAD_LETTERS = "usage.recorded.billing.dlq"

# A currency of which the largest amount of the contract is more than the ledger holds, and its rate in CHF.
DEAR_CURRENCY, DEAR_RATE = "BHD", Decimal(100_000)

# From a mandate to a record.
Maker = Callable[[str], RawRecord]


def _data(**fields: Any) -> Maker:
    """A valid event with other fields."""
    return lambda mandate: usage_record(mandate, **fields)


def _value(change: Callable[[bytes], bytes | None]) -> Maker:
    """A valid event with another value."""

    def make(mandate: str) -> RawRecord:
        record = usage_record(mandate)
        return replace(record, value=change(record.value or b""))

    return make


def _header(name: str, *values: bytes | None) -> Maker:
    """A valid event with other values, or none, of a header."""

    def make(mandate: str) -> RawRecord:
        record = usage_record(mandate)
        kept = [header for header in record.headers if header[0] != name]
        return replace(record, headers=[*kept, *((name, value) for value in values)])

    return make


def _text(old: str, new: str) -> Maker:
    """A valid event with other text in place of some of its own."""
    return _value(lambda value: value.replace(old.encode(), new.encode("utf-8", "surrogatepass"), 1))


def _cost(amount: Any, currency: str = "CHF") -> Maker:
    return _data(cost={"amount": amount, "currency": currency})


def _nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def _ahead(mandate: str) -> RawRecord:
    return usage_record(mandate, at=datetime.now(UTC) + timedelta(minutes=6))


def _of_another_topic(mandate: str) -> RawRecord:
    """A valid event, but of a kind that has a topic of its own."""
    event = paid(mandate, 10).event
    record = encode(event.data, type=event.type, id=event.id, source=event.source, time=event.time, key=mandate)
    return RawRecord(record.value, list(record.headers), record.key)


POISON: dict[str, tuple[str, Maker]] = {
    "a tombstone": ("EMPTY", _value(lambda _: None)),
    "an empty value": ("EMPTY", _value(lambda _: b"")),
    "no JSON": ("NOT_JSON", _value(lambda _: b"charge me")),
    "half of a JSON": ("NOT_JSON", _value(lambda value: value[: len(value) // 2])),
    "no UTF-8": ("NOT_UTF8", _value(lambda value: value.replace(b"chat", b"\xff\xfe"))),
    "a list": ("NOT_AN_OBJECT", _value(lambda _: b"[1, 2]")),
    "a number": ("NOT_AN_OBJECT", _value(lambda _: b"1")),
    "nested 100,000 deep": ("TOO_DEEP", _value(lambda _: _nested(100_000))),
    "nested deep in an unknown field": ("TOO_DEEP", _value(lambda value: b'{"x":' + _nested(9000) + b"," + value[1:])),
    "over the limit": ("RECORD_TOO_LARGE", _data(description="x", padding="x" * 300_000)),
    "a key twice": ("DUPLICATE_KEY", _value(lambda value: value[:-1] + b', "user_id": "other"}')),
    "a key twice, inside": ("DUPLICATE_KEY", _text('"currency"', '"currency": "USD", "currency"')),
    "no user": ("MISSING_FIELD", _data(user_id=None)),
    "nothing used": ("MISSING_FIELD", _data(cost=None)),
    "an id with a space": ("BAD_ID", _data(user_id="user 1")),
    "an id that is too long": ("TOO_LONG", _data(user_id="u" * 65)),
    "NUL in a text": ("BAD_TEXT", _data(description="a\x00b")),
    "a lone surrogate": ("BAD_TEXT", _data(description="a\ud800b")),
    "an integer over 64 bits": ("TOO_LARGE", _data(bytes_sent=2**64)),
    "an integer over 2^53": ("TOO_LARGE", _data(bytes_sent=2**53)),
    "a negative integer": ("NEGATIVE", _data(error_count=-1)),
    "true for an integer": ("WRONG_TYPE", _data(error_count=True)),
    "a float for an integer": ("WRONG_TYPE", _data(error_count=1.5)),
    "NaN in JSON": ("NOT_JSON", _data(error_count=float("nan"))),
    "Infinity in JSON": ("NOT_JSON", _data(error_count=float("inf"))),
    "1e400 for an integer": ("WRONG_TYPE", _text('"feature_code"', '"error_count": 1e400, "feature_code"')),
    "a negative amount": ("NEGATIVE", _cost("-0.01")),
    "NaN for an amount": ("NOT_FINITE", _cost("NaN")),
    "infinity for an amount": ("NOT_FINITE", _cost("-Infinity")),
    "a JSON number for an amount": ("NOT_A_STRING", _cost(0.1)),
    "an amount with 25 decimals": ("TOO_MANY_DECIMALS", _cost("0." + "1" * 25)),
    "an amount with 15 digits": ("TOO_LARGE", _cost("1" * 15)),
    "an amount of a billion": ("TOO_LARGE", _cost("1" + "0" * 9)),
    "an amount with underscores": ("BAD_DECIMAL", _cost("1_000")),
    "an amount in other digits": ("BAD_DECIMAL", _cost("\u0661\u0662")),
    "an unknown currency": ("UNKNOWN_CURRENCY", _cost("1", "XXX")),
    "an unknown kind of tokens": ("UNKNOWN_TOKEN_KIND", _data(tokens={"prompt_tokens": 100_000})),
    "a total that does not add up": ("TOTAL_MISMATCH", _data(tokens={"input": 1, "output": 1, "total": 3})),
    "no id": ("MISSING_ATTRIBUTE", _header("ce_id")),
    "a null id": ("MISSING_ATTRIBUTE", _header("ce_id", None)),
    "an id that is no text": ("BAD_HEADER", _header("ce_id", b"\xff")),
    "an id that is no UUID": ("BAD_UUID", _header("ce_id", b"17")),
    "two ids": ("DUPLICATE_HEADER", _header("ce_id", str(uuid7()).encode(), str(uuid7()).encode())),
    "no headers": ("MISSING_ATTRIBUTE", lambda mandate: replace(usage_record(mandate), headers=[])),
    "another version of CloudEvents": ("BAD_SPECVERSION", _header("ce_specversion", b"0.3")),
    "an unknown type": ("UNKNOWN_TYPE", _header("ce_type", b"com.example.other")),
    "an event of another topic": ("UNKNOWN_TYPE", _of_another_topic),
    "a later major version": ("UNKNOWN_VERSION", _header("ce_type", b"ch.rappen.usage.recorded.v9")),
    "a time without an offset": ("NAIVE_TIME", _header("ce_time", b"2026-01-01T00:00:00")),
    "a time before the first": ("BAD_TIME", _header("ce_time", b"0001-01-01T00:00:00+14:00")),
    "a time in the year 1": ("TIME_OUT_OF_RANGE", _header("ce_time", b"0001-01-01T00:00:00Z")),
    "a time without seconds": ("BAD_TIME", _header("ce_time", b"2026-11-21T14:07Z")),
    "a source that is no URI reference": ("BAD_SOURCE", _header("ce_source", b"my service")),
    "another content type": ("BAD_CONTENT_TYPE", _header("content-type", b"text/plain")),
    "a time in the year 9999": ("TIME_IN_FUTURE", _header("ce_time", b"9999-12-31T23:59:59Z")),
    "a time six minutes ahead": ("TIME_IN_FUTURE", _ahead),
    "a structured event with its data twice": (
        "DATA_TWICE",
        lambda mandate: RawRecord(
            json.dumps(_attributes() | {"data": None, "data_base64": "e30="}).encode(), key=mandate.encode()
        ),
    ),
    "a structured event without data": (
        "MISSING_FIELD",
        lambda mandate: RawRecord(json.dumps(_attributes()).encode(), key=mandate.encode()),
    ),
    # Legal by the contract, but the ledger cannot hold so many micro-francs where the currency has this rate.
    "an amount over the ledger's range": ("AMOUNT_TOO_LARGE", _cost("9" * 9, DEAR_CURRENCY)),
}


def _attributes() -> dict[str, str]:
    return {name.removeprefix("ce_"): (raw or b"").decode() for name, raw in envelope() if name.startswith("ce_")}


async def dead_letters(bootstrap_servers: str) -> list[ConsumerRecord]:
    """Everything in the dead-letter topic."""
    return await read_topic(bootstrap_servers, DEAD_LETTERS)
