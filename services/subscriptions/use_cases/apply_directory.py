"""Keeps this service's copy of the directory: mandates, memberships and feature instances."""

from collections.abc import Sequence

import asyncpg

from rappen_contracts.directory.v1 import DirectoryChanged, FeatureInstance, Mandate, Membership
from services.chassis.clock import Clock
from services.chassis.consumer import Received
from services.chassis.database import Database
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine

__all__ = ["GROUP", "TOPIC", "ApplyDirectory"]

GROUP = "subscriptions"
TOPIC = "directory.changed"

Row = tuple[object, ...]

_MANDATES = (
    "INSERT INTO directory_mandates AS known (id, name, label, enabled, is_system, version)"
    " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET name = excluded.name, label = excluded.label,"
    " enabled = excluded.enabled, is_system = excluded.is_system, version = excluded.version"
    " WHERE known.version < excluded.version"
)
_MEMBERS = (
    "INSERT INTO directory_members AS known (mandate_id, user_id, roles, enabled, version)"
    " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (mandate_id, user_id) DO UPDATE SET roles = excluded.roles,"
    " enabled = excluded.enabled, version = excluded.version WHERE known.version < excluded.version"
)
_FEATURE_INSTANCES = (
    "INSERT INTO directory_feature_instances AS known (id, mandate_id, feature_code, label, enabled, version)"
    " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET mandate_id = excluded.mandate_id,"
    " feature_code = excluded.feature_code, label = excluded.label, enabled = excluded.enabled,"
    " version = excluded.version WHERE known.version < excluded.version"
)


class ApplyDirectory:
    """Handler of directory.changed: what is older than what is known changes nothing, so repeats are harmless."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        """Settles a batch in one transaction."""
        rows: dict[str, list[Row]] = {_MANDATES: [], _MEMBERS: [], _FEATURE_INSTANCES: []}
        rejected = list(refused)
        for received in events:
            changed = received.event.data
            if not isinstance(changed, DirectoryChanged):
                rejected.append(Refused(received.record, "WRONG_TOPIC", f"{received.event.type} on {TOPIC}"))
                continue
            _place(rows, changed)
        async with self._database.bare() as connection, connection.transaction():
            await _write(connection, rows)
            await quarantine(connection, rejected, group=GROUP, now=self._clock())
        EVENTS_CONSUMED.labels(TOPIC, "applied").inc(len(events) + len(refused) - len(rejected))
        return rejected


def _place(rows: dict[str, list[Row]], changed: DirectoryChanged) -> None:
    """Adds the row of an entry; users, accesses and permissions are of no use here."""
    version = changed.version
    match changed.entry:
        case Mandate() as mandate:
            rows[_MANDATES].append(
                (mandate.id, mandate.name, mandate.label, mandate.enabled, mandate.is_system, version)
            )
        case Membership() as member:
            rows[_MEMBERS].append((member.mandate_id, member.user_id, member.roles, member.enabled, version))
        case FeatureInstance() as instance:
            rows[_FEATURE_INSTANCES].append(
                (instance.id, instance.mandate_id, instance.feature_code, instance.label, instance.enabled, version)
            )


async def _write(connection: asyncpg.Connection, rows: dict[str, list[Row]]) -> None:
    """Writes in the order of the keys, so that two workers (during a rebalance) never wait for each other in a ring."""
    for statement, entries in rows.items():
        if entries:
            await connection.executemany(statement, sorted(entries, key=lambda row: (row[0], row[1] or "")))
