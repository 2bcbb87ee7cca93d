"""Charging usage that was parked, once a price or rate has been added: through the same charge, exactly once."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal

from asyncpg.exceptions import UniqueViolationError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.charge_usage import AlreadyRecorded, Charges
from services.billing.charging.usage_events import Usage
from services.billing.ledger.repository import recorded_digests
from services.billing.mandates.repository import lock_mandates, read_terms
from services.billing.pricing.parked import (
    CONTRADICTS,
    FAULTS_OF_DATA,
    TOO_LARGE,
    ParkedEvent,
    fault_of_data,
    read_parked,
    set_aside,
)
from services.billing.pricing.unposted import UnpostedEvent, insert_unposted, take_parked
from services.chassis.clock import Clock
from services.chassis.database import Database, begin, savepoint
from services.chassis.logging import get_logger

__all__ = ["SettleParked"]

BATCH = 500
# The number of halvings that lead from a batch to a single event.
TRIES_AT_ONCE = 10

_log = get_logger(__name__)


class SettleParked:
    """Looks again at parked usage that was last looked at under an older price book."""

    def __init__(self, database: Database, *, default_markup: Decimal, clock: Clock) -> None:
        self._database = database
        self._default_markup = default_markup
        self._clock = clock
        self._charges = Charges(default_markup)
        self._limit = BATCH
        self._failed = 0

    async def __call__(self) -> int:
        """Settles one batch in one transaction; returns how many events were looked at."""
        now = self._clock()
        async with self._database.reading() as connection:
            try:
                async with self._forgetting(), begin(connection):
                    looked_at = await self._settle(connection, now)
            except (UniqueViolationError, AlreadyRecorded):
                # A redelivery charged one of them at the same moment: the next run sees it.
                return self._again()
            except FAULTS_OF_DATA as error:
                # Fewer at once, until the one that cannot be charged is alone and its neighbours are settled.
                _log.warning("parked events isolated", events=self._limit, error=type(error).__name__)
                self._limit = max(1, self._limit // 2)
                return self._again()
        self._limit, self._failed = min(BATCH, self._limit * 2), 0
        return looked_at

    @asynccontextmanager
    async def _forgetting(self) -> AsyncIterator[None]:
        """Forgets the charge keys that were made in a transaction or savepoint that is rolled back."""
        try:
            yield
        except BaseException:
            self._charges = Charges(self._default_markup)
            raise

    def _again(self) -> int:
        """At once while halving may help; then at the job's own pace."""
        self._failed += 1
        return BATCH if self._failed <= TRIES_AT_ONCE else 0

    async def _settle(self, connection: AsyncConnection, now: datetime) -> int:
        _, revision = await read_terms(connection, (), default_markup=self._default_markup)
        taken = await take_parked(connection, own=False, revision=revision, limit=self._limit)
        # All of them, in one order, and outside of the savepoint, whose end would let them go: while a cancellation
        # looks for parked usage, none comes to be there. What they are priced by is read under these locks.
        await lock_mandates(connection, {row["mandate_no"] for row in taken})
        parked = await read_parked(connection, taken, revision, now)
        try:
            async with self._forgetting(), savepoint(connection):
                await self._charge(connection, parked, revision, now)
        except FAULTS_OF_DATA as error:
            if len(parked) > 1:
                raise
            await set_aside(connection, parked[0].row, fault_of_data(error), revision)
        return len(taken)

    async def _charge(
        self, connection: AsyncConnection, parked: Sequence[ParkedEvent], revision: int, now: datetime
    ) -> None:
        if not parked:
            return
        usages = await _usages(connection, parked, revision)
        arrived = {each.identity: each.row["recorded_at"] for each in parked}
        await self._charges.assign_charge_keys(connection, usages, now)
        context = await self._charges.pricing_context(connection, usages)
        outcome = await self._charges.charge(connection, usages, context, now, arrived=arrived, locked=True)
        too_large = {usage.identity for usage in outcome.too_large}
        await insert_unposted(
            connection,
            [UnpostedEvent.kept(each.row, TOO_LARGE, revision) for each in parked if each.identity in too_large],
        )
        _log.info(
            "parked events looked at",
            events=len(parked),
            charged=outcome.charged,
            free=outcome.free,
            parked=outcome.parked,
            too_large=len(outcome.too_large),
        )


async def _usages(connection: AsyncConnection, parked: Sequence[ParkedEvent], revision: int) -> list[Usage]:
    """The usage that is to be charged. What a redelivery has charged meanwhile is only taken out of the parked events;
    what contradicts that charge is parked again."""
    charged = await recorded_digests(connection, "transactions", [each.identity for each in parked])
    await insert_unposted(
        connection,
        [
            UnpostedEvent.kept(each.row, CONTRADICTS, revision)
            for each in parked
            if charged.get(each.identity, each.row["digest"]) != each.row["digest"]
        ],
    )
    return [Usage.of(each.event) for each in parked if each.identity not in charged]
