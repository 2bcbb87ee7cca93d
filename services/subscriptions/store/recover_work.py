"""Finishes or rolls back what a crash, a missing answer or a lost worker has left on its way."""

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.subscriptions.store.advance_activations import advance_mandates
from services.subscriptions.store.repository import mandates_with_open_work

__all__ = ["RecoverWork"]

MANDATES_MAX = 100


class RecoverWork:
    """Each call looks at a page of the mandates in which something is on its way; returns how much was due there."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._after = ""

    async def __call__(self) -> int:
        """A mandate is a transaction of its own, so one in which something is wrong holds up no other."""
        async with self._database.reading() as connection:
            mandate_ids = await mandates_with_open_work(connection, limit=MANDATES_MAX, after=self._after)
        # A full page is followed by the next one, which counts as work to do.
        more = len(mandate_ids) == MANDATES_MAX
        done = 0
        for mandate_id in mandate_ids:
            self._after = mandate_id
            async with self._database.transaction() as connection:
                done += await advance_mandates(connection, [mandate_id], now=self._clock())
        if not more:
            self._after = ""
        return done + more
