"""Forgets requests that were settled long ago: no reader of the topics gets one of them again."""

from datetime import timedelta
from typing import Final

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.payments.requests.repository import delete_requests

__all__ = ["ForgetRequests"]

REQUESTS_MAX: Final = 1_000


class ForgetRequests:
    """One turn of the job: so many at once that no statement is long."""

    def __init__(self, database: Database, *, keep: timedelta, clock: Clock) -> None:
        self._database = database
        self._keep = keep
        self._clock = clock

    async def __call__(self) -> int:
        """How many were forgotten."""
        async with self._database.transaction() as connection:
            return await delete_requests(connection, received_before=self._clock() - self._keep, limit=REQUESTS_MAX)
