"""How publishers write usage events: five styles, and unusual ones. A writer turns an event's data into its record.

The data is a fresh dictionary, which a writer may change, of an event that happens now; a random source given is for
what it adds. Whatever is written here is charged, for it has a cost or a price.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from rappen_contracts import encode
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["PUBLISHED_ONLY", "STYLES", "UNUSUAL", "Headers", "Record", "Style", "Writer"]

# As wide as the producer's own type, because a list of a narrower one is another type.
Headers: TypeAlias = list[tuple[str, str | bytes | None]]
# Key, value and headers of one Kafka record.
Record: TypeAlias = tuple[bytes, bytes, Headers]
Data: TypeAlias = dict[str, Any]
Writer: TypeAlias = Callable[[Data, random.Random], Record]

TYPE = "ch.rappen.usage.recorded.v1"
# In the price file of the simulator searches have a price with these models, and the tier `batch` with these providers.
_SEARCHING = frozenset(
    (
        *("gpt-5-mini", "gpt-4.1", "gpt-4o-mini"),
        *("claude-opus-4-5-20251101", "claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001"),
        *("gemini-2.5-pro", "gemini-2.5-flash", "openai/gpt-oss-120b"),
    )
)
_BATCHING = frozenset(("openai", "anthropic", "google"))
# What a serializer of objects writes of fields that nobody set.
_NULLS: Data = dict.fromkeys(
    ("cost", "tokens", "quantities", "conditions", "hold_id", "bytes_in_use", "metadata", "service_tier")
)


class Style(NamedTuple):
    """How one publisher writes, and how many percent of the ordinary events are its own."""

    name: str
    percent: int
    write: Writer


def _compact(data: Data, _: random.Random) -> Record:
    return _record(data, _headers("/bench/compact"))


def _encoded(data: Data, _: random.Random) -> Record:
    usage = UsageRecorded.model_validate(data)
    record = encode(
        usage, type=TYPE, id=_uuid7(), source="/bench/encoded", time=datetime.now(UTC), key=usage.mandate_id
    )
    return record.key, record.value, list(record.headers)


def _spaced(data: Data, _: random.Random) -> Record:
    headers = _headers("/bench/spaced", time_=_zulu("milliseconds"))
    return data["mandate_id"].encode(), json.dumps({"kind": "ai"} | _NULLS | data).encode(), headers


def _with_metadata(data: Data, choose: random.Random) -> Record:
    data["metadata"] = {
        "team": choose.choice(("sales", "support", "research")),
        "run": f"{choose.getrandbits(48):012x}",
        "environment": "production",
        "prompt_version": str(choose.randrange(1, 40)),
    }
    return _record(data, _headers("/bench/metadata"))


def _with_quantities(data: Data, choose: random.Random) -> Record:
    return _record(_searching(data, str(choose.randrange(1, 6))), _headers("/bench/quantities"))


# In percent of the events that are not set apart by the population.
STYLES = (
    Style("compact JSON", 40, _compact),
    Style("`encode` of the package", 25, _encoded),
    Style("white space and nulls", 15, _spaced),
    Style("metadata", 10, _with_metadata),
    Style("quantities", 10, _with_quantities),
)


def _unusual() -> Iterator[Writer]:
    """Each kind of record that is right and seldom: spellings of ids and times, sets of headers, fields, texts."""
    for spell in ("{:032X}", "{{{}}}", "urn:uuid:{}"):
        yield lambda data, _, spell=spell: _record(data, _headers("/bench/unusual", id_=_spelled(spell)))
    yield lambda data, _: _record(data, _headers("/bench/unusual", id_=str(_uuid7()).upper()))
    plus_two = timezone(timedelta(hours=2))
    for say in (
        lambda: datetime.now(plus_two).isoformat(),
        lambda: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.{time.time_ns() % 10**9:09}Z",
        lambda: datetime.now(UTC).isoformat(" ", "seconds").replace("+00:00", "z"),
    ):
        yield lambda data, _, say=say: _record(data, _headers("/bench/unusual", time_=say()))
    yield _with_more_headers
    yield lambda data, _: _record(data, [one for one in _headers("/bench/unusual") if one[0] != "content-type"])
    yield lambda data, _: _record(
        data, [*_headers("/bench/unusual")[:-1], ("content-type", b"application/json; charset=utf-8")]
    )
    yield _structured
    yield lambda data, choose: (*_structured(data, choose)[:2], [])
    yield lambda data, _: _record(data | {"service_tier": _tier(data)}, _headers("/bench/unusual"))
    yield lambda data, _: _record(data | {"conditions": {"region": "eu"}}, _headers("/bench/unusual"))
    # Looks like a key that is there twice, and is a text.
    said = '{"mandate_id":"a","mandate_id":"b"}, "tokens":{}, "tokens":{}'
    yield lambda data, _: _record(data | {"description": said}, _headers("/bench/unusual"))


def _spelled(spell: str) -> str:
    """A new id: `{}` with hyphens, `{:032X}` as 32 capital digits."""
    id_ = _uuid7()
    return spell.format(id_.int) if "X" in spell else spell.format(id_)


def _tier(data: Data) -> str:
    return "batch" if data["provider"] in _BATCHING else "default"


def _with_more_headers(data: Data, choose: random.Random) -> Record:
    trace = f"00-{choose.getrandbits(127) + 1:032x}-{choose.getrandbits(63) + 1:016x}-01"
    more: Headers = [
        ("ce_subject", data["mandate_id"].encode()),
        ("ce_dataschema", None),
        ("traceparent", trace.encode()),
        ("x-request-id", f"{choose.getrandbits(64):016x}".encode()),
        ("spring_json_header_types", b"{}"),
    ]
    return _record(data, [*more, *_headers("/bench/unusual")])


def _structured(data: Data, _: random.Random) -> Record:
    attributes = {name.removeprefix("ce_"): value.decode() for name, value in _attributes("/bench/structured")}
    value = json.dumps(attributes | {"datacontenttype": "application/json", "data": data})
    return (
        data["mandate_id"].encode(),
        value.encode(),
        [("content-type", b"application/cloudevents+json; charset=utf-8")],
    )


def _with_odd_hold(data: Data, _: random.Random) -> Record:
    return _record(data | {"hold_id": str(_uuid7()).upper()}, _headers("/bench/holds"))


def _with_odd_decimals(data: Data, choose: random.Random) -> Record:
    spelled = choose.choice(("1.5000", "+2", "25e-1", "0.125000000000000000000001"))
    return _record(_searching(data, spelled), _headers("/bench/decimals"))


def _storage(data: Data, choose: random.Random) -> Record:
    """With a cost, because storage has no price in the price book."""
    kept = {name: data[name] for name in ("mandate_id", "user_id", "feature_code", "feature_instance_id")}
    cost = {"amount": f"0.{choose.randrange(1, 10**6):08}", "currency": "USD"}
    stored = {"kind": "storage", "cost": cost, "bytes_in_use": choose.randrange(10**6, 10**11)}
    return _record(kept | stored, _headers("/bench/storage"))


UNUSUAL = tuple(_unusual())
# What only the decoding of the published package takes, whatever shorter way there is for the usual.
PUBLISHED_ONLY: tuple[Writer, ...] = (_with_odd_hold, _with_odd_decimals, _storage, _structured)


def _searching(data: Data, searches: str) -> Data:
    priced = "cost" in data or data["model"] in _SEARCHING
    return data | {"quantities": {"web_searches": searches if priced else "0.00"}}


def _record(data: Data, headers: Headers) -> Record:
    return data["mandate_id"].encode(), json.dumps(data, separators=(",", ":")).encode(), headers


def _headers(source: str, *, id_: str | None = None, time_: str | None = None) -> Headers:
    return [*_attributes(source, id_=id_, time_=time_), ("content-type", b"application/json")]


def _attributes(source: str, *, id_: str | None = None, time_: str | None = None) -> list[tuple[str, bytes]]:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", (id_ or str(_uuid7())).encode()),
        ("ce_source", source.encode()),
        ("ce_type", TYPE.encode()),
        ("ce_time", (time_ or datetime.now(UTC).isoformat()).encode()),
    ]


def _zulu(timespec: str) -> str:
    return datetime.now(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def _uuid7() -> UUID:
    # Never from a seeded source: two streams of one seed must not share an id.
    milliseconds = time.time_ns() // 1_000_000
    bits = random.getrandbits(74)
    return UUID(int=(milliseconds << 80) | (7 << 76) | ((bits >> 62) << 64) | (2 << 62) | (bits & (1 << 62) - 1))
