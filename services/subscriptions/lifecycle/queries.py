"""Reads of subscriptions, each within what the caller may see."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.caller import Caller
from services.chassis.database import Database
from services.chassis.statements import one_of
from services.subscriptions.directory.queries import count_feature_instances, count_members
from services.subscriptions.lifecycle.domain import Subscription
from services.subscriptions.lifecycle.rows import SUBSCRIPTIONS, subscription_of
from services.subscriptions.lifecycle.states import OCCUPYING
from services.subscriptions.tables import stripe_facts, subscriptions

__all__ = ["MandateView", "mandates_to_settle", "member_limit", "operative_of", "recurs", "view_of_mandate"]


class MandateView(NamedTuple):
    """A mandate's subscriptions and what it uses now. `current` is the operative one, else the latest."""

    current: Subscription | None
    scheduled: Subscription | None
    members: int
    feature_instances: int


async def view_of_mandate(database: Database, caller: Caller, mandate_id: str) -> MandateView:
    """What a member may know of their mandate's subscription."""
    caller.require_member(mandate_id)
    async with database.reading() as connection:
        return MandateView(
            current=await _current(connection, mandate_id),
            scheduled=await _scheduled(connection, mandate_id),
            members=await count_members(connection, mandate_id),
            feature_instances=await count_feature_instances(connection, mandate_id),
        )


async def operative_of(
    connection: AsyncConnection, mandate_ids: Collection[str], *, now: datetime
) -> dict[str, Subscription]:
    """The subscriptions that may be used now, by mandate; mandates without one are left out."""
    occupying = SUBSCRIPTIONS.where(
        one_of(subscriptions.c.mandate_id, mandate_ids), subscriptions.c.state.in_(OCCUPYING)
    )
    found = [subscription_of(row) for row in (await connection.execute(occupying)).mappings()]
    return {each.mandate_id: each for each in found if each.operative_at(now)}


async def member_limit(database: Database, caller: Caller, mandate_id: str, *, now: datetime) -> int | None:
    """How many members the plan in force allows; None for no limit, and where no plan is in force."""
    caller.require_admin(mandate_id)
    async with database.reading() as connection:
        operative = (await operative_of(connection, [mandate_id], now=now)).get(mandate_id)
    return None if operative is None else operative.plan.max_users


async def mandates_to_settle(connection: AsyncConnection, *, now: datetime, limit: int) -> dict[str, list[UUID]]:
    """Mandates with which something is due, and the records to which what is known of them was not applied yet."""
    due = sa.select(subscriptions.c.mandate_id).where(subscriptions.c.settle_at <= now).limit(limit)
    late = (
        sa.select(subscriptions.c.mandate_id, subscriptions.c.id)
        .join(stripe_facts, stripe_facts.c.subscription_id == subscriptions.c.id)
        .where(~stripe_facts.c.applied, stripe_facts.c.mandate_id == subscriptions.c.mandate_id)
        .limit(limit)
    )
    found: dict[str, list[UUID]] = {mandate_id: [] for mandate_id in (await connection.scalars(due)).all()}
    for mandate_id, record in (await connection.execute(late)).all():
        found.setdefault(mandate_id, []).append(record)
    return found


async def recurs(connection: AsyncConnection, subscription_id: UUID) -> bool | None:
    """Whether a subscription goes on after its period; None when there is none of that id."""
    read = sa.select(subscriptions.c.recurring).where(subscriptions.c.id == subscription_id)
    return (await connection.execute(read)).scalar_one_or_none()


async def _current(connection: AsyncConnection, mandate_id: str) -> Subscription | None:
    operative = subscriptions.c.state.in_(OCCUPYING)
    return await _first(
        connection,
        SUBSCRIPTIONS.where(subscriptions.c.mandate_id == mandate_id, subscriptions.c.state != "SCHEDULED").order_by(
            operative.desc(),
            # A checkout that came to nothing says less of a mandate than what it had before.
            sa.or_(subscriptions.c.effective_from.is_not(None), subscriptions.c.state == "PENDING").desc(),
            subscriptions.c.created_at.desc(),
            subscriptions.c.id,
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
