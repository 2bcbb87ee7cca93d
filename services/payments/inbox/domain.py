"""A delivery of Stripe's: the signature over the raw body, and the few fields by which an event is stored.

The check is written out here because Stripe's own client reads the machine's clock by itself, accepts any time ahead
of it, and puts the body into the text of its errors.
"""

import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import orjson

__all__ = [
    "SAME_OBJECT",
    "EventsOfObject",
    "IncomingEvent",
    "StoredEvent",
    "UnreadableEvent",
    "WrongSignature",
    "by_object",
    "is_json",
    "outcome_of_others",
    "parse_event",
    "verify_signature",
]

AGE_MAX_S = 300
FUTURE_MAX_S = 60

# The outcome of the events but the first that were processed by one fetch of their object.
SAME_OBJECT = "SAME_OBJECT"
# Outcomes of events that changed nothing: all about the object have the same.
_WITHOUT_EFFECT = frozenset(("IGNORED", "NOT_OURS", "SET_ASIDE", "UNPLACED"))

_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_EVENT_ID = re.compile(r"[A-Za-z0-9_]{1,255}", re.ASCII)
_WORD = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


class WrongSignature(Exception):  # noqa: N818 - the name says what is wrong.
    """The body was not signed by Stripe, or not now. `reason` is one of a few words, for the metric alone."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnreadableEvent(Exception):  # noqa: N818 - as above.
    """The body was signed, and is no event."""


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """The fields by which an event is stored and found. What it says about its object is never used."""

    id: str
    type: str
    livemode: bool
    api_version: str | None
    object_type: str | None
    object_id: str | None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of the inbox that a worker has taken."""

    event_id: str
    type: str
    object_id: str | None
    attempts: int


@dataclass(frozen=True, slots=True)
class EventsOfObject:
    """Events about one object that a worker has taken together, in the order in which they are due."""

    first: StoredEvent
    others: Sequence[StoredEvent]
    leased_until: datetime

    @property
    def event_ids(self) -> list[str]:
        """The ids of all."""
        return [self.first.event_id, *(each.event_id for each in self.others)]


def by_object(
    events: Sequence[StoredEvent], fetch_of: Callable[[StoredEvent], object], *, leased_until: datetime
) -> list[EventsOfObject]:
    """The events that are answered by one fetch together: about the same object, fetched in the same way
    (`fetch_of`). So are those to which nothing listens, by none, and those that name no object."""
    groups: dict[object, list[StoredEvent]] = {}
    for event in events:
        fetch = fetch_of(event)
        without = fetch is None or event.object_id is None
        groups.setdefault(fetch is None if without else (fetch, event.object_id), []).append(event)
    return [EventsOfObject(group[0], group[1:], leased_until) for group in groups.values()]


def outcome_of_others(outcome: str) -> str:
    """The outcome of the events but the first, from that of the first."""
    return outcome if outcome in _WITHOUT_EFFECT else SAME_OBJECT


def verify_signature(body: bytes, header: str | None, *, secrets: Sequence[str], now: datetime) -> None:
    """Raises WrongSignature unless one of the secrets signed this body within the last minutes."""
    timestamp, candidates = _signature_parts(header or "")
    signed = timestamp.encode() + b"." + body
    expected = [hmac.new(secret.encode(), signed, sha256).hexdigest().encode() for secret in secrets]
    matches = [hmac.compare_digest(right, given) for right in expected for given in candidates]
    if not any(matches):
        raise WrongSignature("signature")
    age_s = now.timestamp() - int(timestamp)
    if age_s > AGE_MAX_S:
        raise WrongSignature("old")
    if age_s < -FUTURE_MAX_S:
        raise WrongSignature("future")


def _signature_parts(header: str) -> tuple[str, list[bytes]]:
    pairs = [entry.strip().partition("=") for entry in header.split(",")]
    timestamps = [content for name, _, content in pairs if name == "t"]
    if len(timestamps) != 1 or not _TIMESTAMP.fullmatch(timestamps[0]):
        raise WrongSignature("header")
    return timestamps[0], [content.encode() for name, _, content in pairs if name == "v1"]


def is_json(content_type: str | None) -> bool:
    """Whether a body says that it is JSON, with whatever parameters."""
    essence = (content_type or "").partition(";")[0].strip(" \t").lower()
    return essence.endswith(("/json", "+json"))


def parse_event(body: bytes) -> IncomingEvent:
    """Reads a verified body. A snapshot event has its object inside, a thin one names it; some have none."""
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableEvent from error
    if not isinstance(event, dict):
        raise UnreadableEvent
    event_id, event_type, livemode = event.get("id"), event.get("type"), event.get("livemode")
    if not isinstance(event_id, str) or not _EVENT_ID.fullmatch(event_id):
        raise UnreadableEvent
    if not isinstance(event_type, str) or not _WORD.fullmatch(event_type) or not isinstance(livemode, bool):
        raise UnreadableEvent
    data = event.get("data")
    snapshot = data.get("object") if isinstance(data, dict) else None
    thin = event.get("related_object")
    if isinstance(snapshot, dict):
        object_type, object_id = snapshot.get("object"), snapshot.get("id")
    elif isinstance(thin, dict):
        object_type, object_id = thin.get("type"), thin.get("id")
    else:
        object_type, object_id = None, None
    version = event.get("api_version")
    return IncomingEvent(event_id, event_type, livemode, _word(version), _word(object_type), _word(object_id))


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None
