"""Builders of usage events as a foreign publisher would send them, and a producer that keeps their order."""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from aiokafka import AIOKafkaProducer

__all__ = ["RawRecord", "new_mandate", "publish", "usage_record", "uuid7"]


@dataclass(frozen=True)
class RawRecord:
    """A Kafka record as bytes, whatever is in it."""

    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    key: bytes | None = None
    partition: int | None = None


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
    time_text = (at or datetime.now(UTC)).isoformat()
    return RawRecord(
        value=json.dumps({name: value for name, value in body.items() if value is not None}).encode(),
        headers=[
            ("ce_specversion", b"1.0"),
            ("ce_id", str(event_id or uuid7()).encode()),
            ("ce_source", b"/tests"),
            ("ce_type", b"ch.rappen.usage.recorded.v1"),
            ("ce_time", time_text.encode()),
            ("content-type", b"application/json"),
            *headers,
        ],
        key=mandate_id.encode(),
        partition=partition,
    )


async def publish(bootstrap_servers: str, records: Sequence[RawRecord], topic: str = "usage.recorded") -> None:
    """Produces the records in order, durably."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
        max_batch_size=256 * 1024,
        max_request_size=1024 * 1024,
    )
    await producer.start()
    try:
        sent = [
            await producer.send(
                topic, value=record.value, key=record.key, headers=record.headers, partition=record.partition
            )
            for record in records
        ]
        for future in sent:
            await future
    finally:
        await producer.stop()


def new_mandate() -> str:
    """A mandate that no other test knows."""
    return f"mandate-{uuid4()}"
