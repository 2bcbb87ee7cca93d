"""Forgets events of the webhook that were processed long ago: what they did is in our books, and what they hold of
payers need not be kept for ever."""

from datetime import timedelta
from typing import Final

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.payments.inbox.repository import delete_events

__all__ = ["ForgetEvents"]

EVENTS_MAX: Final = 1_000


class ForgetEvents:
    """One turn of the job: so many at once that no statement is long."""

    def __init__(self, database: Database, *, keep: timedelta, clock: Clock) -> None:
        self._database = database
        self._keep = keep
        self._clock = clock

    async def __call__(self) -> int:
        """How many were forgotten."""
        async with self._database.transaction() as connection:
            return await delete_events(connection, received_before=self._clock() - self._keep, limit=EVENTS_MAX)
