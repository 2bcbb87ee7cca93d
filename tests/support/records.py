"""Records as a consumer hands them to a service's handler."""

import itertools
from datetime import UTC, datetime
from typing import Any

from services.chassis.consumer import Received, received
from services.chassis.kafka import KafkaRecord

__all__ = ["arrived_record", "received_record"]

# No two records of a topic have the same offset.
_offsets = itertools.count()


def received_record(topic: str, record: Any, *, now: datetime | None = None) -> Received:
    """A valid event that arrived, from its `key`, `value` and `headers`; decoded as of now unless another time is
    given."""
    return received(now or datetime.now(UTC))(arrived_record(topic, record))


def arrived_record(topic: str, record: Any) -> KafkaRecord:
    """A record as a consumer reads it, from its `key`, `value` and `headers`."""
    return KafkaRecord(topic, 0, next(_offsets), 0, record.key, record.value, tuple(record.headers))
