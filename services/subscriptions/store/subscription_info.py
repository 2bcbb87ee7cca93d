"""What members of a mandate learn of its subscription in the store."""

from collections.abc import Mapping
from typing import Any

from rappen_contracts.subscription.v1 import SubscriptionState
from services.chassis.caller import Caller
from services.chassis.database import Database
from services.subscriptions.directory.queries import require_known
from services.subscriptions.lifecycle.queries import view_of_mandate
from services.subscriptions.store import queries

__all__ = ["StateNames", "subscription_info"]

# What the frontend calls a state where it knows another word for it.
StateNames = Mapping[SubscriptionState, str]
NAMES = (
    "plan",
    "status",
    "recurring",
    "maxDataVolumeMB",
    "maxFeatureInstances",
    "budgetAiCHF",
    "currentFeatureInstances",
    "trialEndsAt",
)


async def subscription_info(
    database: Database, caller: Caller, mandate_id: str | None, state_names: StateNames
) -> dict[str, Any]:
    """The operative subscription of the mandate, else the latest: every name always, null where unknown."""
    if mandate_id is None:
        mandate_id = await _first_administered(database, caller)
        if mandate_id is None:
            return dict.fromkeys(NAMES)
    caller.require_member(mandate_id)
    await require_known(database, caller, mandate_id)
    subscription = (await view_of_mandate(database, caller, mandate_id)).current
    async with database.reading() as connection:
        in_use = (await queries.instances_in_use(connection, [mandate_id]))[mandate_id]
    if subscription is None:
        return {**dict.fromkeys(NAMES), "currentFeatureInstances": in_use}
    plan = subscription.plan
    values = (
        plan.key,
        state_names.get(subscription.state, subscription.state),
        subscription.recurring,
        plan.max_data_volume_mb,
        plan.max_feature_instances,
        plan.budget_ai,
        in_use,
        subscription.trial_ends_at,
    )
    return dict(zip(NAMES, values, strict=True))


async def _first_administered(database: Database, caller: Caller) -> str | None:
    async with database.reading() as connection:
        known = await queries.mandates_known(connection, caller.administered)
    return next((each.id for each in known.values() if each.enabled and not each.is_system), None)
