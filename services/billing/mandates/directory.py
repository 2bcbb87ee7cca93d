"""Billing's copy of the directory: each entry with its version, the newest wins whatever the order of arrival."""

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.directory.v1 import Mandate, Membership, ProviderPermissions, User
from services.chassis.database import driver_connection

__all__ = ["write_mandate", "write_membership", "write_permissions", "write_user"]


async def write_mandate(connection: AsyncConnection, entry: Mandate, version: int) -> bool:
    """Whether the entry was newer than what is here."""
    return await _changed(
        connection,
        "INSERT INTO directory_mandates AS d (id, name, label, enabled, is_system, version)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET name = $2, label = $3, enabled = $4,"
        " is_system = $5, version = $6 WHERE d.version < $6",
        entry.id,
        entry.name,
        entry.label,
        entry.enabled,
        entry.is_system,
        version,
    )


async def write_user(connection: AsyncConnection, entry: User, version: int) -> bool:
    """Whether the entry was newer than what is here."""
    return await _changed(
        connection,
        "INSERT INTO directory_users AS d (id, username, display_name, enabled, version) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (id) DO UPDATE SET username = $2, display_name = $3, enabled = $4, version = $5"
        " WHERE d.version < $5",
        entry.id,
        entry.username,
        entry.display_name,
        entry.enabled,
        version,
    )


async def write_membership(connection: AsyncConnection, entry: Membership, version: int) -> bool:
    """Whether the entry was newer than what is here."""
    return await _changed(
        connection,
        "INSERT INTO directory_members AS d (mandate_id, user_id, roles, enabled, version) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (mandate_id, user_id) DO UPDATE SET roles = $3, enabled = $4, version = $5 WHERE d.version < $5",
        entry.mandate_id,
        entry.user_id,
        entry.roles,
        entry.enabled,
        version,
    )


async def write_permissions(connection: AsyncConnection, entry: ProviderPermissions, version: int) -> bool:
    """Whether the entry was newer than what is here."""
    return await _changed(
        connection,
        "INSERT INTO provider_permissions AS d (mandate_id, role, providers, version) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (mandate_id, role) DO UPDATE SET providers = $3, version = $4 WHERE d.version < $4",
        entry.mandate_id,
        entry.role,
        entry.providers,
        version,
    )


async def _changed(connection: AsyncConnection, statement: str, *values: object) -> bool:
    driver = driver_connection(connection)
    status: str = await driver.execute(statement, *values)
    return not status.endswith(" 0")
