"""Taking usage in without Kafka: records as a consumer would hand them to the charge."""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal

from aiokafka import ConsumerRecord

from rappen_contracts import decode
from services.billing.charging.charge_usage import ChargeUsage
from services.chassis.clock import system_clock
from services.chassis.consumer import Received
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from tests.support.events import RawRecord

__all__ = ["charge", "received"]

# No two records stand at one place of the topic.
_offsets = itertools.count()


async def charge(database: Database, *records: RawRecord) -> None:
    """Charges the records as one batch, with the platform's default markup."""
    take = ChargeUsage(database, default_markup=Decimal(50), clock=system_clock, faults=FaultPoints(None))
    await take(received(records), [])


def received(records: Iterable[RawRecord]) -> list[Received]:
    """The records as one batch of a consumer."""
    return [_received(record, next(_offsets)) for record in records]


def _received(record: RawRecord, offset: int) -> Received:
    headers = tuple(record.headers)
    kafka_record = ConsumerRecord(
        "usage.recorded", 0, offset, 0, 0, record.key, record.value, None, 0, len(record.value or b""), headers
    )
    return Received(decode(headers, record.value, now=datetime.now(UTC)), kafka_record)
