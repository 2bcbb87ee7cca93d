"""Writes of this service's copy of the directory, and whether it has all that it is to have."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.directory.v1 import (
    DirectoryChanged,
    FeatureAccess,
    FeatureInstance,
    Mandate,
    Membership,
    User,
)
from services.chassis.replicas import Replica
from services.subscriptions import tables

__all__ = ["KINDS", "is_filled", "note_filled", "write_changes"]

# Permissions are of no use here.
_REPLICAS: Mapping[type, Replica] = {
    Mandate: Replica(tables.directory_mandates),
    User: Replica(tables.directory_users),
    Membership: Replica(tables.directory_members),
    FeatureInstance: Replica(tables.directory_feature_instances),
    FeatureAccess: Replica(tables.directory_feature_access),
}
# What the copy is made of. Once it is made of more, it has to be filled again.
KINDS: Final = " ".join(sorted(kind.__name__ for kind in _REPLICAS))


async def write_changes(connection: AsyncConnection, changes: Sequence[DirectoryChanged]) -> None:
    """Writes the entries of changes; what is older than what is known changes nothing."""
    for kind, replica in _REPLICAS.items():
        entries = [(change.entry, change.version) for change in changes if isinstance(change.entry, kind)]
        await replica.write_all(connection, entries)


async def is_filled(connection: AsyncConnection) -> bool:
    """Whether the copy was filled with all kinds."""
    filled = sa.exists().where(tables.directory_fillings.c.kinds == KINDS)
    return bool(await connection.scalar(sa.select(filled)))


async def note_filled(connection: AsyncConnection, *, now: datetime) -> None:
    """Notes that the copy was filled with all kinds; another worker may have done the same."""
    new = insert(tables.directory_fillings).values(kinds=KINDS, filled_at=now)
    await connection.execute(new.on_conflict_do_nothing())
