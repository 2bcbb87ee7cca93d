"""Giving back what is held by holds whose time is over. A check leaves it out from that moment on, before this ran."""

from services.billing.ledger.holds import expire_holds, mandates_with_due_holds
from services.billing.mandates.repository import lock_mandates
from services.chassis.clock import Clock
from services.chassis.database import Database, begin

__all__ = ["ReleaseHolds"]

# Holds that are looked for at once, and most in one transaction: the charges of their mandate wait for it.
BATCH = 500


class ReleaseHolds:
    """Looks for open holds whose time is over."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def __call__(self) -> int:
        """Gives back the amounts of some; returns how many."""
        now, released = self._clock(), 0
        async with self._database.reading() as connection:
            for mandate_no in await mandates_with_due_holds(connection, now=now, limit=BATCH):
                # A transaction for each mandate, so that none is locked while another's lock is waited for.
                async with begin(connection):
                    await lock_mandates(connection, [mandate_no])
                    released += await expire_holds(connection, mandate_no, now=now, limit=BATCH)
        return released
