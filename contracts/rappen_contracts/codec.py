"""Records to events and back: CloudEvents 1.0, binary out, binary and structured in.

`decode` raises nothing but `ContractError`, whatever bytes it is given.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import PydanticCustomError, from_json, to_json

from rappen_contracts.errors import ContractError
from rappen_contracts.registry import EVENTS, RECORD_BYTES_MAX
from rappen_contracts.types import Contract, parse_time, parse_uuid

__all__ = ["Event", "Record", "decode", "decode_structured", "encode", "encode_structured"]

Headers = Iterable[tuple[str, bytes | None]]

FUTURE_MAX = timedelta(minutes=5)
STRUCTURED = "application/cloudevents+json"

# Required CloudEvents attributes, as they stand in binary headers.
_REQUIRED = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time")
_KNOWN_HEADERS = frozenset((*_REQUIRED, "content-type", "traceparent"))
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_TYPE = re.compile(r"(ch\.rappen\.[a-z._]+)\.v(\d{1,9})", re.ASCII)
_SPACED_COLON = re.compile(rb"[ \t\r\n]:")
_SOURCE_LENGTH_MAX = 1024


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded event: CloudEvents attributes, the data as its model, and the digest of its canonical data."""

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


def decode(headers: Headers, value: bytes | None, *, now: datetime) -> Event:
    """Reads one record; `now` bounds how far ahead an event's time may be."""
    try:
        if value is None:
            raise ContractError("EMPTY", "the record has no value")
        if len(value) > RECORD_BYTES_MAX:
            raise ContractError("RECORD_TOO_LARGE", f"at most {RECORD_BYTES_MAX} bytes")
        attributes = _attributes(headers)
        payload = _parse(value)
        if _is_structured(attributes, payload):
            return _structured(payload, attributes.get("traceparent"), now)
        return _event(attributes, payload, now)
    except ContractError:
        raise
    except PydanticCustomError as error:
        raise ContractError(error.type, error.message()) from None
    except Exception as error:  # The promise of this function; what arrives here is a fault of its own code.
        raise ContractError("UNDECODABLE", type(error).__name__) from error


def decode_structured(payload: object, *, now: datetime) -> Event:
    """Reads one structured-mode event that was parsed already (HTTP batches)."""
    try:
        return _structured(payload, None, now)
    except PydanticCustomError as error:
        raise ContractError(error.type, error.message()) from None


def encode(
    data: Contract,
    *,
    type: str,
    id: UUID,
    source: str,
    time: datetime,
    key: str,
    traceparent: str | None = None,  # noqa: A002
) -> Record:
    """Writes one event in binary mode. The model has already refused what the contract refuses."""
    if type not in EVENTS or not isinstance(data, EVENTS[type].model):
        raise ContractError("UNKNOWN_TYPE", f"{type} does not carry this data")
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", str(id).encode()),
        ("ce_source", source.encode()),
        ("ce_type", type.encode()),
        ("ce_time", _time_text(time).encode()),
        ("content-type", b"application/json"),
    ]
    mandate_id = getattr(data, "mandate_id", None)
    if mandate_id is not None:
        headers.append(("ce_subject", mandate_id.encode()))
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return Record(key=key.encode(), value=to_json(data, exclude_none=True), headers=headers)


def encode_structured(event: Event) -> dict[str, Any]:
    """The structured form of an event, for HTTP and for samples."""
    return {
        "specversion": "1.0",
        "id": str(event.id),
        "source": event.source,
        "type": event.type,
        "time": _time_text(event.time),
        "datacontenttype": "application/json",
        "data": event.data.model_dump(mode="json", exclude_none=True),
    }


def _time_text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _attributes(headers: Headers) -> dict[str, str]:
    """The headers that matter, by name; unknown, null and undecodable others never matter."""
    attributes: dict[str, str] = {}
    for name, raw in headers:
        if name in _KNOWN_HEADERS and raw is not None:
            try:
                attributes[name] = raw.decode()
            except UnicodeDecodeError:
                if name in _REQUIRED:
                    raise ContractError("BAD_HEADER", f"{name} is not UTF-8") from None
    return attributes


def _is_structured(attributes: Mapping[str, str], payload: object) -> bool:
    content_type = attributes.get("content-type", "").split(";", 1)[0].strip().lower()
    if content_type == STRUCTURED:
        return True
    # Some SDKs label structured events application/json and send no ce_ header.
    return isinstance(payload, dict) and "specversion" in payload and not any(name in attributes for name in _REQUIRED)


def _parse(value: bytes) -> object:
    """JSON with every duplicate key refused, at any depth."""
    try:
        payload = from_json(value, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise ContractError("NOT_JSON", str(error)) from None
    # Every key of the text ends in `":` unless white space stands before a colon, so where there is none, as many `":`
    # as parsed keys means that no key was lost to a duplicate. A string that holds `":` only leads to the slow look.
    if value.count(b'":') != _key_count(payload) or _SPACED_COLON.search(value):
        _refuse_duplicate_keys(value)
    return payload


def _key_count(payload: object) -> int:
    if isinstance(payload, dict):
        count = len(payload)
        for entry in payload.values():
            if isinstance(entry, dict | list):
                count += _key_count(entry)
        return count
    if isinstance(payload, list):
        return sum(_key_count(entry) for entry in payload)
    return 0


def _refuse_duplicate_keys(value: bytes) -> None:
    import json  # noqa: PLC0415 - the slow look only

    def check(pairs: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ContractError("DUPLICATE_KEY", "an object has a key twice")

    json.loads(value, object_pairs_hook=check)


def _structured(payload: object, traceparent: str | None, now: datetime) -> Event:
    if not isinstance(payload, dict):
        raise ContractError("NOT_AN_OBJECT", "a structured event is a JSON object")
    attributes: dict[str, str] = {}
    for required in _REQUIRED:
        text = payload.get(required.removeprefix("ce_"))
        if text is None:
            raise ContractError("MISSING_ATTRIBUTE", f"{required.removeprefix('ce_')} is required")
        if not isinstance(text, str):
            raise ContractError("BAD_ATTRIBUTE", f"{required.removeprefix('ce_')} is a string")
        attributes[required] = text
    own_trace = payload.get("traceparent")
    trace = own_trace if isinstance(own_trace, str) else traceparent
    if trace is not None:
        attributes["traceparent"] = trace
    if "data" not in payload:
        raise ContractError("MISSING_FIELD", "data is required")
    return _event(attributes, payload["data"], now)


def _event(attributes: Mapping[str, str], payload: object, now: datetime) -> Event:
    for required in _REQUIRED:
        if required not in attributes:
            raise ContractError("MISSING_ATTRIBUTE", f"{required} is required")
    if attributes["ce_specversion"] != "1.0":
        raise ContractError("BAD_ATTRIBUTE", "specversion is 1.0")
    type_ = attributes["ce_type"]
    version = EVENTS.get(type_)
    if version is None:
        raise _unknown(type_)
    source = attributes["ce_source"]
    if not source or len(source) > _SOURCE_LENGTH_MAX or "\x00" in source:
        raise ContractError("BAD_ATTRIBUTE", "source is a URI reference of 1 to 1024 characters")
    event_id = parse_uuid(attributes["ce_id"])
    time = parse_time(attributes["ce_time"])
    if time > now + FUTURE_MAX:
        raise ContractError("TIME_IN_FUTURE", "more than 5 minutes ahead")
    if not isinstance(payload, dict):
        raise ContractError("NOT_AN_OBJECT", "data is a JSON object")
    try:
        data = version.model.model_validate(payload)
    except ValidationError as error:
        raise _refusal(error) from None
    trace = attributes.get("traceparent")
    return Event(
        id=event_id,
        type=type_,
        source=source,
        time=time,
        data=data,
        digest=_digest(type_, data),
        traceparent=trace if trace is not None and _TRACEPARENT.fullmatch(trace) else None,
    )


def _digest(type_: str, data: Contract) -> bytes:
    """16 bytes over the canonical data: model order, sorted entries, no absent fields, decimals without trailing zeros."""
    canonical = to_json(data, exclude_none=True, context={"canonical": True})
    return blake2b(canonical, digest_size=16, person=type_[-16:].encode()).digest()


def _unknown(type_: str) -> ContractError:
    found = _TYPE.fullmatch(type_)
    if found and any(known.startswith(f"{found[1]}.v") for known in EVENTS):
        return ContractError("UNKNOWN_VERSION", f"major version {found[2]} is not known")
    return ContractError("UNKNOWN_TYPE", "no such event type")


_CODES = {
    "missing": "MISSING_FIELD",
    "greater_than_equal": "NEGATIVE",
    "less_than_equal": "TOO_LARGE",
    "int_parsing_size": "TOO_LARGE",
    "finite_number": "NOT_FINITE",
    "string_too_long": "TOO_LONG",
    "string_too_short": "TOO_SHORT",
    "too_long": "TOO_LONG",
    "string_pattern_mismatch": "BAD_ID",
    "literal_error": "UNKNOWN_VALUE",
    "union_tag_invalid": "UNKNOWN_VALUE",
    "union_tag_not_found": "MISSING_FIELD",
}


def _refusal(error: ValidationError) -> ContractError:
    """The first fault with its field; the value itself is never repeated, because details travel and are logged."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    kind = fault["type"]
    code = _CODES.get(kind) or (kind if kind.isupper() else "WRONG_TYPE")
    field = ".".join(str(part)[:120] for part in fault["loc"]) or "data"
    return ContractError(code, f"{field}: {fault['msg']}")
