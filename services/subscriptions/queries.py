"""Reads of subscriptions, each within what the caller may see."""

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.caller import Caller
from services.chassis.database import Database
from services.subscriptions.domain.states import OCCUPYING
from services.subscriptions.domain.subscription import Subscription
from services.subscriptions.errors import MandateUnknown
from services.subscriptions.rows import SUBSCRIPTIONS, subscription_of
from services.subscriptions.tables import (
    directory_feature_instances,
    directory_mandates,
    directory_members,
    subscriptions,
)

__all__ = ["MandateView", "require_known", "view_of_mandate"]


class MandateView(NamedTuple):
    """A mandate's subscriptions and what it uses now. `current` is the operative one, else the latest."""

    current: Subscription | None
    scheduled: Subscription | None
    members: int
    feature_instances: int


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


async def view_of_mandate(database: Database, caller: Caller, mandate_id: str) -> MandateView:
    """What a member may know of their mandate's subscription."""
    caller.require_member(mandate_id)
    async with database.reading() as connection:
        return MandateView(
            current=await _current(connection, mandate_id),
            scheduled=await _scheduled(connection, mandate_id),
            members=await _enabled(connection, directory_members, mandate_id),
            feature_instances=await _enabled(connection, directory_feature_instances, mandate_id),
        )


async def _current(connection: AsyncConnection, mandate_id: str) -> Subscription | None:
    operative = subscriptions.c.state.in_(OCCUPYING)
    return await _first(
        connection,
        SUBSCRIPTIONS.where(subscriptions.c.mandate_id == mandate_id, subscriptions.c.state != "SCHEDULED").order_by(
            operative.desc(), subscriptions.c.created_at.desc(), subscriptions.c.id
        ),
    )


async def _scheduled(connection: AsyncConnection, mandate_id: str) -> Subscription | None:
    return await _first(
        connection,
        SUBSCRIPTIONS.where(subscriptions.c.mandate_id == mandate_id, subscriptions.c.state == "SCHEDULED").order_by(
            subscriptions.c.created_at.desc(), subscriptions.c.id
        ),
    )


async def _first(connection: AsyncConnection, query: "sa.Select[tuple[object, ...]]") -> Subscription | None:
    row = (await connection.execute(query.limit(1))).mappings().first()
    return None if row is None else subscription_of(row)


async def _enabled(connection: AsyncConnection, table: sa.Table, mandate_id: str) -> int:
    counted = sa.select(sa.func.count()).where(table.c.mandate_id == mandate_id, table.c.enabled)
    return int((await connection.execute(counted)).scalar_one())
