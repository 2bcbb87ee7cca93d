"""Settling payments and refunds that waited for a rate, once it has been added: by the same code, exactly once."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.credits.payment_events import settle_payment
from services.billing.mandates.repository import LockedMandate, lock_mandates
from services.billing.pricing.parked import (
    CONTRADICTS,
    FAULTS_OF_DATA,
    ParkedEvent,
    fault_of_data,
    read_parked,
    set_aside,
)
from services.billing.pricing.rating import Tariff
from services.billing.pricing.repository import Tariffs, current_tariff
from services.billing.pricing.unposted import UnpostedEvent, insert_unposted, take_parked
from services.chassis.clock import Clock
from services.chassis.database import Database, savepoint

__all__ = ["SettlePayments"]

# Payments without a rate are few, so each may have a savepoint of its own.
BATCH = 100


class SettlePayments:
    """Looks again at parked payments that were last looked at under an older table of rates."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._tariffs = Tariffs()

    async def __call__(self) -> int:
        """Settles one batch in one transaction; returns how many payments were looked at."""
        now = self._clock()
        async with self._database.transaction() as connection:
            tariff = await current_tariff(connection, self._tariffs)
            taken = await take_parked(connection, own=True, revision=tariff.revision, limit=BATCH)
            mandates = await lock_mandates(connection, {row["mandate_no"] for row in taken})
            for parked in await read_parked(connection, taken, tariff.revision, now):
                try:
                    async with savepoint(connection):
                        await _settle(connection, mandates[parked.row["mandate_no"]], parked, tariff, now)
                except FAULTS_OF_DATA as error:
                    await set_aside(connection, parked.row, fault_of_data(error), tariff.revision)
        return len(taken)


async def _settle(
    connection: AsyncConnection, mandate: LockedMandate, parked: ParkedEvent, tariff: Tariff, now: datetime
) -> None:
    """Settles a parked payment; what still has no rate, or contradicts what was settled, is parked again."""
    outcome = await settle_payment(connection, mandate, parked.event, tariff, now=now)
    if outcome == "conflict":
        outcome = UnpostedEvent.kept(parked.row, CONTRADICTS, tariff.revision)
    if not isinstance(outcome, str):
        await insert_unposted(connection, [outcome])
