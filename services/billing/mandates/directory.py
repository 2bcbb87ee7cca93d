"""Billing's copy of the directory: each entry with its version, the newest wins whatever the order of arrival."""

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.directory.v1 import DirectoryEntry, Mandate, Membership, ProviderPermissions, User
from services.billing import tables
from services.chassis.replicas import Replica

__all__ = ["write_entry"]

# Feature instances and accesses are not kept: the gateway evaluates them, and the caller's context has the result.
_REPLICAS: Mapping[type, Replica] = {
    Mandate: Replica(tables.directory_mandates),
    User: Replica(tables.directory_users),
    Membership: Replica(tables.directory_members),
    ProviderPermissions: Replica(tables.provider_permissions),
}


async def write_entry(connection: AsyncConnection, entry: DirectoryEntry, version: int) -> bool:
    """Whether the entry is of a kind that is kept here, and was newer than what is here."""
    replica = _REPLICAS.get(type(entry))
    return replica is not None and await replica.write(connection, entry, version)
