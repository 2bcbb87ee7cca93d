"""Keeps this service's copy of the directory: mandates, user names, memberships, feature instances and accesses."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.directory.v1 import DirectoryChanged
from services.chassis.clock import Clock
from services.chassis.consumer import Received
from services.chassis.database import Database
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine
from services.subscriptions.directory.repository import write_changes

__all__ = ["GROUP", "TOPIC", "ApplyDirectory"]

GROUP = "subscriptions"
TOPIC = "directory.changed"


class Followed(Protocol):
    """Told, in the same transaction, what has changed of mandates."""

    async def __call__(
        self, connection: AsyncConnection, changes: Sequence[DirectoryChanged], *, now: datetime
    ) -> None: ...


class ApplyDirectory:
    """Handler of directory.changed: what is older than what is known changes nothing, so repeats are harmless."""

    def __init__(self, database: Database, *, clock: Clock, followed: Followed) -> None:
        self._database = database
        self._clock = clock
        self._followed = followed

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        """Settles a batch in one transaction."""
        changes: list[DirectoryChanged] = []
        rejected = list(refused)
        for received in events:
            changed = received.event.data
            if isinstance(changed, DirectoryChanged):
                changes.append(changed)
            else:
                rejected.append(Refused(received.record, "WRONG_TOPIC", f"{received.event.type} on {TOPIC}"))
        async with self._database.transaction() as connection:
            await write_changes(connection, changes)
            if changes:
                await self._followed(connection, changes, now=self._clock())
            await quarantine(connection, rejected, group=GROUP, now=self._clock())
        EVENTS_CONSUMED.labels(TOPIC, "applied").inc(len(events) + len(refused) - len(rejected))
        return rejected
