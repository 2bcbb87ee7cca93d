"""Reads of this service's copy of the directory."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.caller import Caller, MandateUnknown
from services.chassis.database import Database
from services.subscriptions.tables import directory_feature_instances, directory_mandates, directory_members

__all__ = ["count_feature_instances", "count_members", "require_known"]


async def require_known(database: Database, caller: Caller, mandate_id: str) -> None:
    """Refuses a mandate that the directory does not know. Its own members' word for it is enough."""
    if mandate_id in caller.mandates:
        return
    caller.require_system_admin()
    known = sa.select(directory_mandates.c.id).where(directory_mandates.c.id == mandate_id)
    # PostgreSQL's text holds no NUL, so there can be no such id.
    if "\x00" in mandate_id:
        raise MandateUnknown
    async with database.reading() as connection:
        if (await connection.execute(known)).first() is None:
            raise MandateUnknown


async def count_members(connection: AsyncConnection, mandate_id: str) -> int:
    """How many members of a mandate are enabled."""
    return await _enabled(connection, directory_members, mandate_id)


async def count_feature_instances(connection: AsyncConnection, mandate_id: str) -> int:
    """How many feature instances of a mandate are enabled."""
    return await _enabled(connection, directory_feature_instances, mandate_id)


async def _enabled(connection: AsyncConnection, table: sa.Table, mandate_id: str) -> int:
    counted = sa.select(sa.func.count()).where(table.c.mandate_id == mandate_id, table.c.enabled)
    return int((await connection.execute(counted)).scalar_one())
