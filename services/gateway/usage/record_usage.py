"""Usage events taken over HTTP: each judged by itself, the valid ones in Kafka before the answer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rappen_contracts import ContractError, Event, Record, decode, decode_batch_text, encode
from rappen_contracts.registry import source_topic
from services.chassis.clock import Clock
from services.gateway.usage.publisher import TOPIC, UsagePublisher

__all__ = ["UsageRecorder", "Verdict", "read_batch", "read_event"]

SENT_ID_LENGTH_MAX = 100

STRUCTURED_HEADERS = [("content-type", b"application/cloudevents+json")]

# The scope to write usage does not permit events of payments or of the directory.
_USAGE = {version.type: version for version in source_topic(TOPIC).events}

# An event, or the refusal of what was sent.
Given = Event | ContractError


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one event; `code` is None when it is accepted, `id` when it has none that can be read."""

    id: str | None
    code: str | None = None
    detail: str = ""


def read_event(body: bytes, *, now: datetime) -> list[Given]:
    """The one event of a body; a refusal has its id as it was sent, like that of an element of a batch."""
    try:
        return [decode(STRUCTURED_HEADERS, body, now=now, events=_USAGE)]
    except ContractError as error:
        error.event_id = error.event_id or _sent_id(body)
        return [error]


def read_batch(body: bytes, *, now: datetime) -> list[Given]:
    """The events of a batch; raises `ContractError` for what is no batch at all."""
    events = decode_batch_text(body, now=now, events=_USAGE)
    if not events:
        raise ContractError("EMPTY", "a batch has at least one event")
    return events


@dataclass(frozen=True, slots=True)
class UsageRecorder:
    """Records events by a publisher; `now` is the time that they are judged at."""

    publisher: UsagePublisher
    now: Clock

    async def record(self, events: Sequence[Given]) -> list[Verdict]:
        """Publishes the valid events; returns when Kafka has them, with a verdict for each event."""
        verdicts: list[Verdict] = []
        records: list[Record] = []
        for event in events:
            id_ = str(event.id) if isinstance(event, Event) else event.event_id
            try:
                records.append(_record(event))
                verdicts.append(Verdict(id_))
            except ContractError as error:
                verdicts.append(Verdict(id_, error.code, error.detail))
        if records:
            await self.publisher.publish(records)
        return verdicts


def _sent_id(body: bytes) -> str | None:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        return None
    id_ = given.get("id") if isinstance(given, dict) else None
    return id_[:SENT_ID_LENGTH_MAX].encode("utf-8", "replace").decode() if isinstance(id_, str) else None


def _record(event: Given) -> Record:
    if isinstance(event, ContractError):
        raise event
    mandate_id = getattr(event.data, "mandate_id", None)
    if not isinstance(mandate_id, str):
        raise TypeError(f"{event.type} has no mandate id")
    return encode(
        event.data,
        type=event.type,
        id=event.id,
        source=event.source,
        time=event.time,
        key=mandate_id,
        traceparent=event.traceparent,
    )
