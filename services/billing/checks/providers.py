"""Which AI providers somebody may use (G5): by role, a role without rows has the platform's default."""

from collections.abc import Mapping, Sequence

import asyncpg

from services.billing.pricing.repository import Tariffs, current_tariff
from services.billing.settings import BillingSettings

__all__ = ["allowed", "provider_catalogue", "providers_of_member"]


async def provider_catalogue(
    connection: asyncpg.Connection, tariffs: Tariffs, settings: BillingSettings
) -> frozenset[str]:
    """The providers of the price book and those added by configuration."""
    tariff = await current_tariff(connection, tariffs)
    return tariff.book.providers() | frozenset(settings.additional_providers)


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


async def providers_of_member(
    connection: asyncpg.Connection, mandate_id: str, user_id: str, catalogue: frozenset[str], settings: BillingSettings
) -> frozenset[str]:
    """The providers an enabled member may use; nobody else may use any."""
    roles = await connection.fetchval(
        "SELECT s.roles FROM directory_members s JOIN directory_mandates d ON d.id = s.mandate_id AND d.enabled"
        " WHERE s.mandate_id = $1 AND s.user_id = $2 AND s.enabled",
        mandate_id,
        user_id,
    )
    if roles is None:
        return frozenset()
    rows = await connection.fetch(
        "SELECT role, providers FROM provider_permissions WHERE mandate_id = $1 AND providers IS NOT NULL", mandate_id
    )
    return allowed(roles, {row["role"]: row["providers"] for row in rows}, catalogue, settings.provider_roles)
