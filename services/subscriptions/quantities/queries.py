"""Reads of what a mandate uses and is charged for."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.subscriptions.lifecycle.domain import Subscription
from services.subscriptions.tables import activations, directory_feature_instances, quantities, removals

__all__ = ["charged_instances", "is_set_up"]

_instance, _activation, _removal = directory_feature_instances.c, activations.c, removals.c


async def charged_instances(connection: AsyncConnection, mandate_id: str) -> int:
    """How many feature instances of a mandate are to be charged: those there are, without those that are not paid for
    yet, that are being rolled back or that are being removed."""
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


async def is_set_up(connection: AsyncConnection, subscription: Subscription) -> bool:
    """Whether all is there at Stripe that the subscription's plan is charged by; true of a plan without Stripe."""
    if not subscription.plan.requires_stripe:
        return True
    known = sa.select(quantities.c.subscription_id).where(
        quantities.c.subscription_id == subscription.id,
        quantities.c.settled_members.is_not(None),
        quantities.c.settled_feature_instances.is_not(None),
    )
    return (await connection.execute(known)).first() is not None
