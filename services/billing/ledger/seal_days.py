"""Sealing: each day of the ledger that is over gets a digest over its rows, chained to that of the day before."""

import asyncio
from datetime import date, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.closed_days import close_days, newest_number, writers_are_over
from services.billing.ledger.day_digests import FIRST
from services.billing.ledger.sealed_days import Seal, digest_of_day, insert_seal, last_seal, unsealed_days
from services.chassis.clock import Clock
from services.chassis.database import Database, begin, driver_connection, extend_timeouts
from services.chassis.faults import FaultPoints
from services.chassis.logging import get_logger

__all__ = ["SealDays"]

# The time that reading one day may take.
SEALING_S = 1800.0
# How often, and how long apart, it is looked whether the transactions of a closed day are over.
LOOKS = 20
LOOK_AGAIN_S = 0.1
# Sealing is done by one worker at a time: the key of its lock, which nothing else in the database has.
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('billing.sealed_days'))"

_log = get_logger(__name__)


class SealDays:
    """Closes the days that are over, and seals each that has rows, once no transaction can write into it any more."""

    def __init__(self, database: Database, *, after_s: int, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._after = timedelta(seconds=after_s)
        self._clock = clock
        self._faults = faults
        # The last closed day, and the number that all its writers are below; it stays, so that the wait has an end.
        self._closed: tuple[date, int] | None = None

    async def __call__(self) -> int:
        """Seals what can be sealed; returns how many days."""
        now = self._clock()
        async with self._database.reading() as connection:
            last = await close_days(connection, (now - self._after).date() - timedelta(days=1), now=now)
            known = await last_seal(driver_connection(connection))
            if known is not None and known.day >= last:
                return 0
            if not await self._is_quiet(connection, last):
                return 0
            async with begin(connection):
                await _prepare(connection)
                days = await unsealed_days(driver_connection(connection), known and known.day, last)
            sealed = 0
            for day in days:
                if not await self._seal(connection, day):
                    break
                sealed += 1
        return sealed

    async def _is_quiet(self, connection: AsyncConnection, last: date) -> bool:
        """Whether all who may have found the day open are done."""
        if self._closed is None or self._closed[0] != last:
            self._closed = last, await newest_number(connection)
        for _ in range(LOOKS):
            if await writers_are_over(connection, self._closed[1]):
                return True
            await asyncio.sleep(LOOK_AGAIN_S)
        _log.info("day not sealed yet", day=str(last), why="a transaction is still open")
        return False

    async def _seal(self, connection: AsyncConnection, day: date) -> bool:
        """Seals one day in a transaction of its own; False where another worker is at it or was."""
        async with begin(connection):
            driver = driver_connection(connection)
            if not await driver.fetchval(_LOCK):
                return False
            # Under the lock, so that the day before is the one that is sealed by now.
            before = await last_seal(driver)
            if before is not None and before.day >= day:
                return False
            await _prepare(connection)
            seal: Seal = await digest_of_day(driver, day, FIRST if before is None else before.digest)
            await insert_seal(driver, seal, now=self._clock())
            self._faults.reach("seal_before_commit")
        # The log lies elsewhere: who changes the chain to its end cannot change what it was.
        _log.info("day sealed", day=str(day), rows=seal.rows, digest=seal.digest.hex())
        return True


async def _prepare(connection: AsyncConnection) -> None:
    """Gives the statements of a transaction the time to read a day, and plans for the values that they have."""
    await extend_timeouts(connection, SEALING_S)
    await driver_connection(connection).execute(
        "SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL cursor_tuple_fraction = 1"
    )
