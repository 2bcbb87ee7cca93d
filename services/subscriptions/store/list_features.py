"""The features of the store as a caller sees them: their own instances, and where one more may be activated."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.caller import Caller
from services.chassis.database import Database
from services.subscriptions.lifecycle.queries import operative_of
from services.subscriptions.quantities.queries import complete_at_stripe
from services.subscriptions.store import queries
from services.subscriptions.store.catalogue import Features
from services.subscriptions.store.domain import Feature, Reason, reason_against
from services.subscriptions.store.queries import Instance

__all__ = ["FeatureView", "Standing", "list_features"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether one more instance may be activated in a mandate; the reason where it may not."""

    mandate_id: str
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class FeatureView:
    """A feature with the caller's instances of it."""

    feature: Feature
    instances: list[Instance]


async def list_features(
    database: Database, features: Features, caller: Caller, *, now: datetime
) -> tuple[list[FeatureView], list[Standing]]:
    """Every feature of the store, and how it stands with each mandate of the caller: limits count all features."""
    async with database.reading() as connection:
        own = await queries.instances_of(connection, caller.user_id)
        standings = await _standings(connection, caller, now)
    views = [
        FeatureView(feature, [instance for instance in own if instance.feature_code == feature.code])
        for feature in features.shown
    ]
    return views, standings


async def _standings(connection: AsyncConnection, caller: Caller, now: datetime) -> list[Standing]:
    known = await queries.mandates_known(connection, sorted(caller.mandates))
    offered = [each.id for each in known.values() if each.enabled and not each.is_system]
    operative = await operative_of(connection, offered, now=now)
    complete = await complete_at_stripe(connection, [each.id for each in operative.values()])
    in_use = await queries.instances_in_use(connection, offered)
    standings = []
    for mandate_id in offered:
        subscription = operative.get(mandate_id)
        charged = subscription is not None and subscription.plan.requires_stripe
        reason = reason_against(
            administers=caller.mandates[mandate_id],
            operative=subscription is not None,
            stripe_complete=not charged or (subscription is not None and subscription.id in complete),
            limit=None if subscription is None else subscription.plan.max_feature_instances,
            in_use=in_use[mandate_id],
        )
        standings.append(Standing(mandate_id, reason))
    return standings
