"""Reads of what a mandate is to be charged for, and of what there is at Stripe to charge it by."""

from collections.abc import Collection
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.statements import one_of
from services.subscriptions.tables import (
    activations,
    directory_feature_instances,
    quantities,
    removals,
    stripe_facts,
)

__all__ = ["charged_instances", "complete_at_stripe"]

_instance, _activation, _removal = directory_feature_instances.c, activations.c, removals.c


async def charged_instances(connection: AsyncConnection, mandate_id: str) -> int:
    """How many feature instances of a mandate are to be charged: those there are, without those whose payment was not
    asked for yet, that are being rolled back or that are being removed."""
    uncharged = sa.exists().where(
        sa.cast(_activation.instance_id, sa.Text) == _instance.id,
        _activation.mandate_id == mandate_id,
        _activation.state.in_(("PROVISIONING", "ROLLING_BACK")),
    )
    removed = sa.exists().where(
        _removal.instance_id == _instance.id, _removal.instance_removed, _removal.done_at.is_(None)
    )
    counted = sa.select(sa.func.count()).where(
        _instance.mandate_id == mandate_id, _instance.enabled, ~uncharged, ~removed
    )
    return int((await connection.execute(counted)).scalar_one())


async def complete_at_stripe(connection: AsyncConnection, subscription_ids: Collection[UUID]) -> set[UUID]:
    """Which of these subscriptions are charged at Stripe by items; payments adds the one that nothing was charged by
    so far."""
    items = stripe_facts.c.subscription["items"]
    complete = (
        sa.select(quantities.c.subscription_id)
        .join(stripe_facts, stripe_facts.c.subscription_id == quantities.c.subscription_id)
        .where(
            one_of(quantities.c.subscription_id, subscription_ids),
            quantities.c.live,
            sa.func.jsonb_array_length(items) > 0,
        )
    )
    return {UUID(bytes=found.bytes) for found in await connection.scalars(complete)}
