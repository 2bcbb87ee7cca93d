"""Charging usage without Kafka, with records as a consumer hands them to the charge; and what takes a charge back."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg

from services.billing.charging.cancellation_event import CancellationEvent
from services.billing.charging.charge_usage import ChargeUsage
from services.billing.charging.reversals import reversal_id
from services.billing.charging.settle_parked import SettleParked
from services.billing.charging.usage_events import Usage, reader
from services.billing.ledger.domain import Posting, transaction_id
from services.chassis.clock import Clock, system_clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from tests.support.events import RawRecord
from tests.support.records import arrived_record

__all__ = ["charge", "charging", "received", "reversal", "settling"]

DEFAULT_MARKUP = Decimal(50)


async def charge(database: Database, *records: RawRecord) -> None:
    """Charges the records as one batch, with the platform's default markup."""
    await charging(database)(received(records), [])


def charging(
    database: Database, *, clock: Clock = system_clock, default_markup: Decimal = DEFAULT_MARKUP
) -> ChargeUsage:
    """The handler of usage.recorded."""
    return ChargeUsage(database, default_markup=default_markup, clock=clock, faults=FaultPoints(None))


def settling(database: Database, *, clock: Clock = system_clock) -> SettleParked:
    """The job that charges what waited for a price."""
    return SettleParked(database, default_markup=DEFAULT_MARKUP, clock=clock)


def received(records: Iterable[RawRecord], *, now: datetime | None = None) -> list[Usage | CancellationEvent]:
    """The records as one batch of the consumer of usage; they are read as of now unless another time is given."""
    read = reader(now or system_clock())
    return [read(arrived_record("usage.recorded", record)) for record in records]


def reversal(row: asyncpg.Record, **changed: Any) -> Posting:
    """What takes a charge back, given its row: its whole amount, on the day and in the dimension of the usage."""
    posting = Posting.own(
        mandate_no=row["mandate_no"],
        event_id=reversal_id(row["mandate_no"], row["event_id"]),
        member_account_no=row["member_account_no"],
        posted_account_no=row["posted_account_no"],
        transaction_type="ADJUSTMENT",
        amount=row["amount"],
        contra_account="REVENUE",
        reference_type=row["reference_type"],
        reference_id=str(transaction_id(row["posted_account_no"], row["seq"])),
        occurred_at=row["occurred_at"],
        description="Reversed",
    )
    return posting.changed(**{"dimension_no": row["dimension_no"]} | changed)
