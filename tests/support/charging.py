"""Taking usage in without Kafka: records as a consumer would hand them to the charge; and taking a charge back."""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid5

import asyncpg
from aiokafka import ConsumerRecord

from rappen_contracts import decode
from services.billing.charging.charge_usage import ChargeUsage
from services.billing.ledger.domain import LEDGER_NAMESPACE, Posting
from services.chassis.clock import system_clock
from services.chassis.consumer import Received
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from tests.support.events import RawRecord

__all__ = ["charge", "received", "reversal"]

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


def reversal(row: asyncpg.Record, **changed: Any) -> Posting:
    """What takes a charge back, by the charge's row: its whole amount, on the day and in the dimension of the usage."""
    posting = Posting(
        mandate_no=row["mandate_no"],
        event_id=uuid5(LEDGER_NAMESPACE, f"reversal/{row['event_id']}"),
        member_account_no=row["account_no"],
        posted_account_no=row["moved_account_no"],
        transaction_type="ADJUSTMENT",
        amount=row["amount"],
        contra_account="REVENUE",
        reference_type=row["reference_type"],
        occurred_at=row["occurred_at"],
        description="Reversed",
        dimension_no=row["dimension_no"],
    )
    return posting._replace(**changed)
