"""Keeps this service's copy of the directory: mandates, memberships and feature instances."""

from collections.abc import Sequence

import sqlalchemy as sa

from rappen_contracts.directory.v1 import DirectoryChanged, FeatureInstance, Mandate, Membership
from services.chassis.clock import Clock
from services.chassis.consumer import Received
from services.chassis.database import Database, driver_connection
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine
from services.subscriptions.repository import Entry, write_directory
from services.subscriptions.tables import directory_feature_instances, directory_mandates, directory_members

__all__ = ["GROUP", "TOPIC", "ApplyDirectory"]

GROUP = "subscriptions"
TOPIC = "directory.changed"


class ApplyDirectory:
    """Handler of directory.changed: what is older than what is known changes nothing, so repeats are harmless."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> None:
        """Settles a batch in one transaction."""
        rows: dict[sa.Table, list[Entry]] = {
            directory_mandates: [],
            directory_members: [],
            directory_feature_instances: [],
        }
        foreign: list[Refused] = []
        for received in events:
            changed = received.event.data
            if not isinstance(changed, DirectoryChanged):
                foreign.append(Refused(received.record, "WRONG_TOPIC", f"{received.event.type} on {TOPIC}"))
                continue
            _place(rows, changed)
        async with self._database.transaction() as connection:
            await write_directory(connection, rows)
            await quarantine(driver_connection(connection), [*refused, *foreign], group=GROUP, now=self._clock())
        EVENTS_CONSUMED.labels(TOPIC, "applied").inc(len(events) - len(foreign))


def _place(rows: dict[sa.Table, list[Entry]], changed: DirectoryChanged) -> None:
    """Adds the row of an entry; users, accesses and permissions are of no use here."""
    match changed.entry:
        case Mandate() as entry:
            table = directory_mandates
        case Membership() as entry:
            table = directory_members
        case FeatureInstance() as entry:
            table = directory_feature_instances
        case _:
            return
    names = [column.name for column in table.c if column.name != "version"]
    rows[table].append({**{name: getattr(entry, name) for name in names}, "version": changed.version})
