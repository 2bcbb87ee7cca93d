"""Records to events and back: CloudEvents 1.0, binary out, binary and structured in.

`decode` raises nothing but `ContractError`, whatever bytes it is given.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import PydanticCustomError, to_json

from rappen_contracts.errors import ContractError
from rappen_contracts.field_faults import refusal
from rappen_contracts.json_text import parse_json, split_array
from rappen_contracts.registry import EVENTS, RECORD_BYTES_MAX, EventVersion
from rappen_contracts.types import TIME_END, TIME_START, Contract, parse_instant, parse_uuid

__all__ = [
    "BATCH_EVENTS_MAX",
    "FUTURE_MAX",
    "JSON",
    "Event",
    "Record",
    "checked_source",
    "decode",
    "decode_batch_text",
    "decode_structured",
    "digest_state",
    "encode",
    "encode_structured",
]

Headers = Iterable[tuple[str, bytes | None]]
Events = Mapping[str, EventVersion]

BATCH_EVENTS_MAX = 1000
FUTURE_MAX = timedelta(minutes=5)
JSON = "application/json"
STRUCTURED = "application/cloudevents+json"

# Required CloudEvents attributes, as they stand in binary headers.
_REQUIRED = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time")
_KNOWN_HEADERS = frozenset((*_REQUIRED, "content-type", "ce_datacontenttype", "traceparent"))
# W3C Trace Context: version ff and identifiers of zeros only are invalid.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_TYPE = re.compile(r"(ch\.rappen\.[a-z._]+)\.v\d{1,9}", re.ASCII)
_SHOWN_ID_LENGTH_MAX = 100
# Media types whose text is JSON; parameters were cut off before.
_JSON_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/(?:json|[a-z0-9!#$&^_.+-]+\+json)", re.ASCII)
# RFC 3986, URI-reference: scheme, authority with an IPv6 address or a name, path, query and fragment. Without scheme
# and authority the first segment of a path has no colon.
_URI_REFERENCE = re.compile(
    r"(?:[a-z][a-z0-9+.-]*:)?"
    r"(?://(?:(?:[a-z0-9._~!$&'()*+,;=:-]|%[0-9a-f]{2})*@)?"
    r"(?:\[[0-9a-fv.:]+\]|(?:[a-z0-9._~!$&'()*+,;=-]|%[0-9a-f]{2})*)(?::[0-9]*)?(?=[/?#]|\Z)|(?!//))"
    r"(?:[a-z0-9._~!$&'()*+,;=:@/-]|%[0-9a-f]{2})*"
    r"(?:\?(?:[a-z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-f]{2})*)?"
    r"(?:#(?:[a-z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-f]{2})*)?",
    re.ASCII | re.IGNORECASE,
)
_NO_SCHEME = re.compile(r"(?![a-z][a-z0-9+.-]*:)[^/?#]*:", re.ASCII | re.IGNORECASE)
_SOURCE_LENGTH_MAX = 1024

_CANONICAL = {"canonical": True}


class Event(NamedTuple):
    """A decoded event: CloudEvents attributes, the data as its model, and the digest of its canonical data.

    `type` and `data` are of the newest version, also where the record was of an older one.
    """

    id: UUID
    type: str
    source: str
    time: datetime
    data: Contract
    digest: bytes
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What goes to Kafka for one event, in binary mode."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def decode(headers: Headers, value: bytes | None, *, now: datetime, events: Events = EVENTS) -> Event:
    """Reads one record; `now` bounds how far ahead an event's time may be."""
    try:
        if not value:
            raise ContractError("EMPTY", "the record has no value")
        if len(value) > RECORD_BYTES_MAX:
            raise ContractError("RECORD_TOO_LARGE", f"at most {RECORD_BYTES_MAX} bytes")
        attributes = _attributes(headers)
        content_type = attributes.get("content-type") or attributes.get("ce_datacontenttype") or JSON
        if content_type != JSON:
            content_type = _media_type(content_type)
        payload = parse_json(value)
        if content_type == STRUCTURED or _looks_structured(attributes, payload):
            return _structured(payload, attributes.get("traceparent"), now, events)
        return _event(attributes, payload, now, events)
    except ContractError:
        raise
    except Exception as error:  # The promise of this function; what arrives here is a fault of its own code.
        raise ContractError("UNDECODABLE", type(error).__name__) from error


def decode_structured(payload: object, *, now: datetime, events: Events = EVENTS) -> Event:
    """Reads one structured-mode event that was parsed already; only `decode` can find duplicate keys."""
    try:
        return _structured(payload, None, now, events)
    except ContractError:
        raise
    except Exception as error:  # The same promise as that of `decode`.
        raise ContractError("UNDECODABLE", type(error).__name__) from error


def decode_batch_text(body: bytes, *, now: datetime, events: Events = EVENTS) -> list[Event | ContractError]:
    """Reads an `application/cloudevents-batch+json` body; a refused element is represented by its error, in its
    position.

    Raises `ContractError` when the body as a whole cannot be read. The size of a body is for the caller to limit.
    """
    return [_element(seen, text, now, events) for seen, text in split_array(body, BATCH_EVENTS_MAX)]


def encode(
    data: Contract,
    *,
    type: str,  # noqa: A002 - the attributes have the names of CloudEvents.
    id: UUID,  # noqa: A002
    source: str,
    time: datetime,
    key: str,
    traceparent: str | None = None,
    events: Events = EVENTS,
) -> Record:
    """Writes one event in binary mode; `ContractError` for what no reader would accept, no invalid traceparent."""
    version = events.get(type)
    if version is None or not isinstance(data, version.model):
        raise ContractError("UNKNOWN_TYPE", f"{type} does not carry this data")
    if time.tzinfo is None:
        raise ContractError("NAIVE_TIME", "time: a time needs an offset")
    if not TIME_START <= time < TIME_END:
        raise ContractError("TIME_OUT_OF_RANGE", "time: a time is in the years 2000 to 2199")
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", str(id).encode()),
        ("ce_source", checked_source(source).encode()),
        ("ce_type", type.encode()),
        ("ce_time", _time_text(time).encode()),
        ("content-type", JSON.encode()),
    ]
    mandate_id = getattr(data, "mandate_id", None)
    if mandate_id is not None:
        headers.append(("ce_subject", mandate_id.encode()))
    if traceparent is not None and _TRACEPARENT.fullmatch(traceparent):
        headers.append(("traceparent", traceparent.encode()))
    value = _written(data)
    if len(value) > RECORD_BYTES_MAX:
        raise ContractError("RECORD_TOO_LARGE", f"at most {RECORD_BYTES_MAX} bytes")
    return Record(key=key.encode(), value=value, headers=headers)


def _written(data: Contract) -> bytes:
    """The data without its defaults, which a reader adds again; more only where leaving them out would be misread.

    The member of a union needs its tag, and `tokens` whose counts are all zero must not be empty, which means absent.
    """
    if not _has_tags(type(data)):
        # The digest's own rule, so that both agree on what need not be said.
        written = data.__pydantic_serializer__.to_json(data, exclude_defaults=True)
        if b"{}" not in written:
            return written
    return to_json(data, exclude_none=True)


@lru_cache
def _has_tags(model: type[Contract]) -> bool:
    """Whether a field is a union whose members are told apart by a field that has a default."""
    return any(field.discriminator is not None for field in model.model_fields.values())


def encode_structured(event: Event) -> dict[str, Any]:
    """The structured form of an event, for HTTP and for samples."""
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(event.id),
        "source": event.source,
        "type": event.type,
        "time": _time_text(event.time),
        "datacontenttype": JSON,
    }
    mandate_id = getattr(event.data, "mandate_id", None)
    if mandate_id is not None:
        attributes["subject"] = mandate_id
    if event.traceparent is not None:
        attributes["traceparent"] = event.traceparent
    return attributes | {"data": event.data.model_dump(mode="json", exclude_none=True)}


def _time_text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _element(seen: object, text: bytes, now: datetime, events: Events) -> Event | ContractError:
    """One element of a batch; where it is refused but has an id, the error names it."""
    try:
        return decode((("content-type", STRUCTURED.encode()),), text, now=now, events=events)
    except ContractError as error:
        id_ = seen.get("id") if isinstance(seen, dict) else None
        if isinstance(id_, str):
            error.event_id = id_[:_SHOWN_ID_LENGTH_MAX].encode("utf-8", "replace").decode()
        return error


def _attributes(headers: Headers) -> dict[str, str]:
    """The headers that matter, by name; unknown, null and undecodable others never matter."""
    attributes: dict[str, str] = {}
    for name, raw in headers:
        if name in _KNOWN_HEADERS and raw is not None:
            try:
                text = raw.decode()
            except UnicodeDecodeError:
                if name in _REQUIRED:
                    raise ContractError("BAD_HEADER", f"{name} is not UTF-8") from None
                continue
            if attributes.setdefault(name, text) != text and name in _REQUIRED:
                raise ContractError("DUPLICATE_HEADER", f"{name} has two values")
    return attributes


def _looks_structured(attributes: Mapping[str, str], payload: object) -> bool:
    """Some SDKs label structured events application/json, some bridges lose every header."""
    return isinstance(payload, dict) and "specversion" in payload and not any(name in attributes for name in _REQUIRED)


def _structured(payload: object, traceparent: str | None, now: datetime, events: Events) -> Event:
    if not isinstance(payload, dict):
        raise ContractError("NOT_AN_OBJECT", "a structured event is a JSON object")
    attributes: dict[str, str] = {}
    for required in _REQUIRED:
        text = payload.get(required.removeprefix("ce_"))
        if text is None:
            raise _missing(required)
        if not isinstance(text, str):
            raise ContractError("BAD_ATTRIBUTE", f"{required.removeprefix('ce_')} is a string")
        attributes[required] = text
    own_trace = payload.get("traceparent")
    trace = own_trace if isinstance(own_trace, str) else traceparent
    if trace is not None:
        attributes["traceparent"] = trace
    return _event(attributes, _structured_data(payload), now, events)


def _event(attributes: Mapping[str, str], payload: object, now: datetime, events: Events) -> Event:
    for required in _REQUIRED:
        if required not in attributes:
            raise _missing(required)
    if attributes["ce_specversion"] != "1.0":
        raise ContractError("BAD_SPECVERSION", "specversion is 1.0")
    type_ = attributes["ce_type"]
    version = events.get(type_)
    if version is None:
        raise _unknown(type_, events)
    source = checked_source(attributes["ce_source"])
    field = "id"
    try:
        event_id = parse_uuid(attributes["ce_id"])
        field = "time"
        time = parse_instant(attributes["ce_time"])
    except PydanticCustomError as error:
        raise ContractError(error.type, f"{field}: {error.message()}") from None
    if not TIME_START <= time <= now + FUTURE_MAX:
        raise _untimely(time)
    if not isinstance(payload, dict):
        raise ContractError("NOT_AN_OBJECT", "data is a JSON object")
    try:
        data = version.model.model_validate(payload)
        while version.upcast is not None:
            data, type_ = version.upcast(data), version.next_type
            version = events[type_]
    except ValidationError as error:
        raise refusal(error, version.model) from None
    trace = attributes.get("traceparent")
    traceparent = trace if trace is not None and _TRACEPARENT.fullmatch(trace) else None
    # By position, because this is done for each event.
    return Event(event_id, type_, source, time, data, _digest(version.name, data), traceparent)


def _untimely(time: datetime) -> ContractError:
    if time < TIME_START:
        return ContractError("TIME_OUT_OF_RANGE", "time: an event does not happen before the year 2000")
    return ContractError("TIME_IN_FUTURE", "time: more than 5 minutes ahead")


def _missing(attribute: str) -> ContractError:
    return ContractError("MISSING_ATTRIBUTE", f"{attribute.removeprefix('ce_')} is required")


def _digest(name: str, data: Contract) -> bytes:
    """16 bytes over the canonical data: model order, sorted entries, decimals without trailing zeros, no defaults.

    Defaults are left out so that a field added to a contract later does not change the digest of what is stored.
    """
    # The serializer itself, because `model_dump_json` around it takes as long again.
    canonical = data.__pydantic_serializer__.to_json(data, exclude_defaults=True, context=_CANONICAL)
    digest = digest_state(name).copy()
    digest.update(canonical)
    return digest.digest()


@lru_cache
def digest_state(name: str) -> blake2b:
    """The hash of a contract's data before the first byte, which costs more to make than to copy."""
    return blake2b(digest_size=16, person=name[-16:].encode())


def _unknown(type_: str, events: Events) -> ContractError:
    found = _TYPE.fullmatch(type_)
    versions = [known for known in events if found and known.startswith(f"{found[1]}.v")]
    if versions:
        return ContractError("UNKNOWN_VERSION", f"type: this version is not known; known is {', '.join(versions)}")
    return ContractError("UNKNOWN_TYPE", f"type: no such event; known are {', '.join(events)}")


def _media_type(content_type: str) -> str:
    """The media type without its parameters, in lower case; only JSON is read."""
    essence = content_type.partition(";")[0].strip(" \t").lower()
    if not _JSON_TYPE.fullmatch(essence):
        raise ContractError("BAD_CONTENT_TYPE", f"the content type is {JSON} or another kind of JSON")
    return essence


def _structured_data(payload: Mapping[str, object]) -> object:
    """`data`, or what `data_base64` holds as JSON; `data: null` is there, a null of the other two is not."""
    content_type, encoded = payload.get("datacontenttype"), payload.get("data_base64")
    if content_type is not None and not isinstance(content_type, str):
        raise ContractError("BAD_ATTRIBUTE", "datacontenttype is a string")
    if content_type:
        _media_type(content_type)
    if encoded is None:
        if "data" not in payload:
            raise ContractError("MISSING_FIELD", "data is required")
        return payload["data"]
    if "data" in payload:
        raise ContractError("DATA_TWICE", "data and data_base64 exclude each other")
    if not isinstance(encoded, str):
        raise ContractError("BAD_ATTRIBUTE", "data_base64 is a string")
    try:
        value = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ContractError("BAD_BASE64", "data_base64 is not base64 with padding (RFC 4648, section 4)") from None
    if not value:
        raise ContractError("EMPTY", "data_base64 holds nothing")
    return parse_json(value)


@lru_cache(maxsize=512)
def checked_source(source: str) -> str:
    """Checks `ce_source` as a URI reference; cached, because publishers are few and the check is slow."""
    if not 1 <= len(source) <= _SOURCE_LENGTH_MAX or not _URI_REFERENCE.fullmatch(source) or _NO_SCHEME.match(source):
        raise ContractError("BAD_SOURCE", "source is a URI reference (RFC 3986) of 1 to 1024 characters")
    return source
