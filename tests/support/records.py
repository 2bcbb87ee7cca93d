"""Records as a consumer hands them to a service's handler."""

import itertools
from datetime import UTC, datetime
from typing import Any

from aiokafka import ConsumerRecord

from rappen_contracts import decode
from services.chassis.consumer import Received

__all__ = ["received_record"]

# No two records of a topic have the same offset.
_offsets = itertools.count()


def received_record(topic: str, record: Any, *, now: datetime | None = None) -> Received:
    """A valid event that arrived, from its `key`, `value` and `headers`; decoded as of now unless another time is
    given."""
    headers = tuple(record.headers)
    kafka_record = ConsumerRecord(
        topic, 0, next(_offsets), 0, 0, record.key, record.value, None, 0, len(record.value or b""), headers
    )
    return Received(decode(headers, record.value, now=now or datetime.now(UTC)), kafka_record)
