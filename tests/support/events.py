"""Builders of usage events as a foreign publisher would send them, and a producer that keeps their order."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from aiokafka import AIOKafkaProducer

__all__ = [
    "USAGE_PARTITIONS",
    "RawRecord",
    "envelope",
    "new_mandate",
    "publish",
    "scattered",
    "stream",
    "structured_record",
    "usage_record",
    "uuid7",
    "voided_record",
]

USAGE_PARTITIONS = 12
# A publisher of ours may send records over the contract's limit, to see what becomes of them.
REQUEST_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True)
class RawRecord:
    """A Kafka record as bytes, whatever is in it."""

    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    key: bytes | None = None
    partition: int | None = None

    @property
    def event_id(self) -> UUID:
        """The id in the headers of an event in binary mode."""
        return UUID((dict(self.headers)["ce_id"] or b"").decode())


def uuid7() -> UUID:
    """A time-ordered id, as good publishers make them."""
    milliseconds = time.time_ns() // 1_000_000
    return UUID(
        int=(milliseconds << 80) | (7 << 76) | (random.getrandbits(12) << 64) | (2 << 62) | random.getrandbits(62)
    )


def usage_record(
    mandate_id: str,
    user_id: str = "user-1",
    *,
    event_id: UUID | None = None,
    amount: str = "0.01",
    currency: str = "CHF",
    at: datetime | None = None,
    headers: Sequence[tuple[str, bytes | None]] = (),
    partition: int | None = None,
    **data: Any,
) -> RawRecord:
    """A valid usage.recorded of one AI call in binary mode; `data` adds to or replaces its fields."""
    body: dict[str, Any] = {
        "mandate_id": mandate_id,
        "user_id": user_id,
        "provider": "anthropic",
        "model": "claude-sonnet-4-5",
        "cost": {"amount": amount, "currency": currency},
        "feature_code": "chat",
        **data,
    }
    return RawRecord(
        value=json.dumps({name: value for name, value in body.items() if value is not None}).encode(),
        headers=[*envelope(event_id=event_id, at=at), *headers],
        key=mandate_id.encode(),
        partition=partition,
    )


def voided_record(
    mandate_id: str,
    cancelled: UUID,
    reason: str = "sent by mistake",
    *,
    event_id: UUID | None = None,
    at: datetime | None = None,
    partition: int | None = None,
) -> RawRecord:
    """A usage.voided that cancels a usage event, with an id of its own."""
    body = {"mandate_id": mandate_id, "event_id": str(cancelled), "reason": reason}
    return RawRecord(
        value=json.dumps(body).encode(),
        headers=envelope(event_id=event_id, event_type="ch.rappen.usage.voided.v1", at=at),
        key=mandate_id.encode(),
        partition=partition,
    )


def envelope(
    *, event_id: UUID | None = None, event_type: str = "ch.rappen.usage.recorded.v1", at: datetime | None = None
) -> list[tuple[str, bytes | None]]:
    """The headers of an event in binary mode."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", str(event_id or uuid7()).encode()),
        ("ce_source", b"/tests"),
        ("ce_type", event_type.encode()),
        ("ce_time", (at or datetime.now(UTC)).isoformat().encode()),
        ("content-type", b"application/json"),
    ]


def structured_record(record: RawRecord, content_type: bytes | None) -> RawRecord:
    """The same event in structured mode, with or without a content type."""
    attributes = {name.removeprefix("ce_"): raw.decode() for name, raw in record.headers if raw and name[:3] == "ce_"}
    event = {**attributes, "data": json.loads(record.value or b"null")}
    headers: list[tuple[str, bytes | None]] = [] if content_type is None else [("content-type", content_type)]
    return replace(record, value=json.dumps(event).encode(), headers=headers)


def stream(mandates: Sequence[str], count: int) -> tuple[list[RawRecord], list[UUID]]:
    """Events of a few members of each mandate with amounts that leave remainders, and their ids."""
    ids = [uuid7() for _ in range(count)]
    records = [
        usage_record(
            random.choice(mandates), f"user-{number % 5}", event_id=event_id, amount=f"0.00{random.randrange(10**7)}"
        )
        for number, event_id in enumerate(ids)
    ]
    return records, ids


def scattered(records: Sequence[RawRecord]) -> list[RawRecord]:
    """The records without keys and over all partitions in turn, contrary to the contract."""
    return [replace(record, key=None, partition=number % USAGE_PARTITIONS) for number, record in enumerate(records)]


async def publish(
    bootstrap_servers: str,
    records: Sequence[RawRecord],
    topic: str = "usage.recorded",
    *,
    compression: str | None = None,
    batch_bytes: int = 256 * 1024,
    pause_s: float = 0.0,
) -> None:
    """Produces the records in order, durably; idempotent, so a broker that comes back gets each of them once.

    With a pause it rests so long after every 500 records.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        compression_type=compression,
        linger_ms=5,
        max_batch_size=batch_bytes,
        max_request_size=REQUEST_BYTES_MAX,
    )
    await producer.start()
    try:
        sent = []
        for number, record in enumerate(records, start=1):
            future = await producer.send(
                topic, value=record.value, key=record.key, headers=record.headers, partition=record.partition
            )
            sent.append(future)
            if pause_s and number % 500 == 0:
                await asyncio.sleep(pause_s)
        for future in sent:
            await future
    finally:
        await producer.stop()


def new_mandate() -> str:
    """A mandate that no other test knows."""
    return f"mandate-{uuid4()}"
