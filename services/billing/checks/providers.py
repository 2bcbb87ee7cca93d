"""Which AI providers somebody may use: by role, a role without rows has the platform's default."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.mandates.errors import MandateUnknown
from services.billing.mandates.queries import find_mandate
from services.billing.pricing.repository import Tariffs, current_tariff
from services.billing.settings import BillingSettings
from services.billing.tables import directory_mandates, directory_members, provider_permissions
from services.chassis.database import Database

__all__ = ["allowed", "list_providers", "list_providers_in", "list_providers_of_member"]


async def list_providers(database: Database, tariffs: Tariffs, settings: BillingSettings) -> list[str]:
    """The catalogue of providers, sorted."""
    async with database.reading() as connection:
        return sorted(await _catalogue(connection, tariffs, settings))


async def list_providers_in(
    database: Database, tariffs: Tariffs, settings: BillingSettings, mandate_id: str, user_id: str
) -> list[str]:
    """The providers that a user may use in a mandate, sorted; 404 for a mandate that the directory does not know."""
    async with database.reading() as connection:
        known, _ = await find_mandate(connection, mandate_id)
        if not known:
            raise MandateUnknown
        catalogue = await _catalogue(connection, tariffs, settings)
        return sorted(await _of_member(connection, mandate_id, user_id, catalogue, settings))


async def list_providers_of_member(
    database: Database, tariffs: Tariffs, settings: BillingSettings, mandate_ids: Sequence[str], user_id: str
) -> list[str]:
    """The providers that a user may use in any of the mandates, sorted."""
    async with database.reading() as connection:
        catalogue = await _catalogue(connection, tariffs, settings)
        found: frozenset[str] = frozenset()
        for mandate_id in mandate_ids:
            found |= await _of_member(connection, mandate_id, user_id, catalogue, settings)
        return sorted(found)


def allowed(
    roles: Sequence[str],
    permissions: Mapping[str, Sequence[str]],
    catalogue: frozenset[str],
    default_roles: Sequence[str],
) -> frozenset[str]:
    """What any of the roles allows: a row of the mandate replaces the platform's default for its role."""
    found: frozenset[str] = frozenset()
    for role in roles:
        if role in permissions:
            found |= frozenset(permissions[role])
        elif role in default_roles:
            found |= catalogue
    return found


async def _catalogue(connection: AsyncConnection, tariffs: Tariffs, settings: BillingSettings) -> frozenset[str]:
    """The providers of the price book and those added by configuration."""
    tariff = await current_tariff(connection, tariffs)
    return tariff.book.providers() | frozenset(settings.additional_providers)


async def _of_member(
    connection: AsyncConnection, mandate_id: str, user_id: str, catalogue: frozenset[str], settings: BillingSettings
) -> frozenset[str]:
    """The providers an enabled member may use; nobody else may use any."""
    members, permissions = directory_members.c, provider_permissions.c
    in_enabled = sa.and_(directory_mandates.c.id == members.mandate_id, directory_mandates.c.enabled)
    read = sa.select(members.roles).select_from(directory_members.join(directory_mandates, in_enabled))
    of_user = sa.and_(members.mandate_id == mandate_id, members.user_id == user_id, members.enabled)
    roles = await connection.scalar(read.where(of_user))
    if roles is None:
        return frozenset()
    ruled = sa.select(permissions.role, permissions.providers).where(
        permissions.mandate_id == mandate_id, permissions.providers.is_not(None)
    )
    rows = (await connection.execute(ruled)).all()
    return allowed(roles, {row.role: row.providers for row in rows}, catalogue, settings.provider_roles)
