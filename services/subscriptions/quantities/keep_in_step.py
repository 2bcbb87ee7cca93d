"""Keeps what is charged at Stripe in step with what is in use, until both agree."""

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.subscriptions.quantities.domain import next_look
from services.subscriptions.quantities.repository import in_use, lock_due, look_again
from services.subscriptions.quantities.request_quantities import ask_for

__all__ = ["KeepInStep"]

# How many subscriptions one transaction looks at.
LOOKS_MAX = 200
CAUSE = "quantities"


class KeepInStep:
    """Each call looks at the subscriptions that are due, asks where something differs, and returns how many it asked
    for or will not look at again."""

    def __init__(self, database: Database, *, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._clock = clock
        self._faults = faults

    async def __call__(self) -> int:
        """One transaction; what is in use is counted in it, after the row is locked."""
        now = self._clock()
        async with self._database.transaction() as connection:
            due = await lock_due(connection, now=now, limit=LOOKS_MAX)
            for kept in due:
                wanted = await in_use(connection, kept.mandate_id)
                look = next_look(kept, wanted, now)
                if look == now:
                    await ask_for(connection, kept, wanted, cause=CAUSE, now=now)
                else:
                    await look_again(connection, kept.subscription_id, look)
            if due:
                self._faults.reach("subscriptions_quantities_uncommitted")
        if due:
            self._faults.reach("subscriptions_quantities_committed")
        return len(due)
